"""Predict the 1 to 5 stars of a Yelp review by fine-tuning bert-base-cased."""

from ray import tune

from sweeps import SearchSpace, TextClassification

SEARCH_SPACE = SearchSpace(
    build_trainer=TextClassification(
        model="google-bert/bert-base-cased",
        dataset="Yelp/yelp_review_full",  # 650,000 train rows; the classes are read from the data
        train_rows=100_000,
        eval_rows=10_000,  # held out from train: standard error 0.5 points; test is never read
        max_tokens=256,
    ),
    metric="eval_accuracy",
    mode="max",
    tuned={
        "learning_rate": tune.loguniform(1e-5, 1e-4),  # BERT paper A.3: 2e-5 to 5e-5
        "total_train_batch_size": tune.choice([16, 32, 64]),  # rows per step, over all workers
        "warmup_steps": tune.uniform(0.0, 0.1),  # fraction of all steps; ends before the first rung
    },
    fixed={
        "num_train_epochs": 2,
        "weight_decay": 0.01,
        "per_device_eval_batch_size": 64,  # HF's default of 8 leaves most of a GPU idle
        "seed": 17,
    },
    first_params=[{"learning_rate": 3e-5, "total_train_batch_size": 32, "warmup_steps": 0.1}],
    evals_per_trial=8,  # ASHA compares at 1/8 and 1/2 of a trial
)
