"""Find people, places and organisations in news sentences by fine-tuning bert-base-cased."""

from ray import tune

from sweeps import SearchSpace, TokenClassification

SEARCH_SPACE = SearchSpace(
    build_trainer=TokenClassification(
        model="google-bert/bert-base-cased",
        dataset="eriktks/conll2003",  # 14,041 train and 3,250 validation rows; test is never read
        # The main branch holds a loading script, which `datasets` no longer runs.
        revisions={"datasets/eriktks/conll2003": "refs/convert/parquet"},
        max_tokens=256,
    ),
    metric="eval_f1",
    mode="max",
    tuned={
        "learning_rate": tune.loguniform(1e-5, 2e-4),  # BERT paper A.3: 2e-5 to 5e-5
        "total_train_batch_size": tune.choice([8, 16, 32]),  # sentences per step, over all workers
        "weight_decay": tune.uniform(0.0, 0.1),
        "warmup_steps": tune.uniform(0.0, 0.1),  # fraction of all steps; ends before the first rung
    },
    fixed={
        "num_train_epochs": 3,
        "per_device_eval_batch_size": 64,  # HF's default of 8 leaves most of a GPU idle
        "seed": 17,
    },
    first_params=[
        {
            "learning_rate": 5e-5,
            "total_train_batch_size": 32,
            "weight_decay": 0.01,
            "warmup_steps": 0.1,
        }
    ],
    evals_per_trial=8,  # ASHA compares at 1/8 and 1/2 of a trial
)
