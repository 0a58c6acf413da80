"""Find the optimizer and schedule that fine-tune bert-base-cased best, each with its settings."""

from collections.abc import Mapping
from typing import Any

from ray import tune

from sweeps import SearchSpace, TextClassification, when


def fits_in_memory(values: Mapping[str, Any]) -> bool:
    """Allow at most 16,384 tokens per step: 64 texts of 256 tokens, or 32 of 512."""
    return bool(values["total_train_batch_size"] * values["max_tokens"] <= 16_384)


SEARCH_SPACE = SearchSpace(
    build_trainer=TextClassification(
        model="google-bert/bert-base-cased",
        dataset="Yelp/yelp_review_full",
        train_rows=100_000,
        eval_rows=10_000,  # held out from train: standard error 0.5 points
    ),
    metric="eval_accuracy",
    mode="max",
    tuned={
        "optim": tune.choice(["adamw_torch", "sgd"]),
        "learning_rate": [
            when({"optim": "adamw_torch"}, tune.loguniform(1e-5, 1e-4)),
            when({"optim": "sgd"}, tune.loguniform(1e-3, 1e-1)),
        ],
        "adam_beta2": when({"optim": "adamw_torch"}, tune.choice([0.98, 0.999])),
        "optim_args.momentum": when({"optim": "sgd"}, tune.uniform(0.8, 0.99)),
        "lr_scheduler_type": tune.choice(["linear", "cosine"]),
        "lr_scheduler_kwargs.num_cycles": when(
            {"lr_scheduler_type": "cosine"}, tune.uniform(0.3, 0.7)
        ),  # 0.5 ends with a learning rate of 0
        "total_train_batch_size": tune.choice([16, 32, 64]),
        "max_tokens": tune.choice([128, 256, 512]),
    },
    constraints=[fits_in_memory],
    fixed={
        "num_train_epochs": 2,
        "warmup_steps": 0.06,
        "weight_decay": 0.01,
        "per_device_eval_batch_size": 64,  # HF's default of 8 leaves most of a GPU idle
        "seed": 17,
    },
    first_params=[
        {
            "optim": "adamw_torch",
            "learning_rate": 3e-5,
            "adam_beta2": 0.999,
            "lr_scheduler_type": "linear",
            "total_train_batch_size": 32,
            "max_tokens": 256,
        }
    ],
)
