"""Teach SmolLM2-135M-Instruct the tone of an assistant with LoRA, on 9,800 conversations."""

from ray import tune

from sweeps import CausalLM, SearchSpace

SEARCH_SPACE = SearchSpace(
    build_trainer=CausalLM(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        dataset="timdettmers/openassistant-guanaco",
        eval_rows=500,  # held out from train; the test split is never read
        block_tokens=1024,
        lora_rank=8,
        lora_alpha=16,
        lora_dropout=0.05,
        lora_modules="all-linear",  # QLoRA (Dettmers et al. 2023), section 4: all layers matter
    ),
    metric="eval_loss",
    mode="min",
    tuned={
        "learning_rate": tune.loguniform(5e-5, 2e-3),
        "lora_rank": tune.choice([4, 8, 16, 32]),
    },
    fixed={
        "total_train_batch_size": 16,  # blocks per step, over all workers
        "max_rows_per_device": 4,
        "num_train_epochs": 1,
        "warmup_steps": 0.03,
        "seed": 17,
    },
    first_params=[{"learning_rate": 2e-4, "lora_rank": 8}],
    evals_per_trial=8,  # ASHA compares at 1/8 and 1/2 of a trial
)
