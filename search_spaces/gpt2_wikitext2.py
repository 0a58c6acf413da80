"""Predict the next token of Wikipedia articles by fine-tuning GPT-2 on wikitext-2."""

from ray import tune

from sweeps import CausalLM, SearchSpace

SEARCH_SPACE = SearchSpace(
    build_trainer=CausalLM(
        model="openai-community/gpt2",
        dataset="Salesforce/wikitext",
        dataset_config="wikitext-2-raw-v1",  # 2.4 million tokens to train on; test is never read
        documents=False,  # a row is a line of an article
        block_tokens=1024,  # GPT-2's full context
    ),
    metric="eval_perplexity",
    mode="min",
    tuned={
        "learning_rate": tune.loguniform(1e-5, 5e-4),
        "total_train_batch_size": tune.choice([8, 16, 32]),  # blocks per step, over all workers
        "weight_decay": tune.uniform(0.0, 0.1),
        "warmup_steps": tune.uniform(0.0, 0.1),  # fraction of all steps; ends before the first rung
    },
    fixed={"num_train_epochs": 3, "max_rows_per_device": 8, "seed": 17},
    first_params=[
        {
            "learning_rate": 5e-5,  # from HF's own example, as is the batch size
            "total_train_batch_size": 8,
            "weight_decay": 0.0,
            "warmup_steps": 0.0,
        }
    ],
    evals_per_trial=8,  # ASHA compares at 1/8 and 1/2 of a trial
)
