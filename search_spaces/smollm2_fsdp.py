"""Teach SmolLM2-1.7B the tone of an assistant; its weights are sharded over 2 or more GPUs."""

from ray import tune

from sweeps import CausalLM, SearchSpace

# Weights, gradients and Adam's moments take 16 bytes per weight, 27 GB: on 2 GPUs, 14 GB each.
SEARCH_SPACE = SearchSpace(
    build_trainer=CausalLM(
        model="HuggingFaceTB/SmolLM2-1.7B",
        dataset="timdettmers/openassistant-guanaco",  # 9,800 conversations
        eval_rows=500,  # held out from train; the test split is never read
        block_tokens=2048,
    ),
    metric="eval_loss",
    mode="min",
    tuned={
        "learning_rate": tune.loguniform(3e-6, 1e-4),
        "warmup_steps": tune.uniform(0.0, 0.1),  # fraction of all steps; ends before the first rung
    },
    fixed={
        "fsdp": True,  # needs --workers-per-trial 2 or more
        "fsdp_config.activation_checkpointing": True,
        "total_train_batch_size": 16,  # blocks per step, over all workers
        "max_rows_per_device": 4,
        "num_train_epochs": 1,
        "seed": 17,
    },
    first_params=[{"learning_rate": 2e-5, "warmup_steps": 0.03}],
    evals_per_trial=8,  # ASHA compares at 1/8 and 1/2 of a trial
)
