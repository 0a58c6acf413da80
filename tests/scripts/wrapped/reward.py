"""TRL's reward script: a classifier with one label, judged by which answer it prefers."""

import places
from datasets import Dataset
from ray import tune
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from sweeps import SearchSpace


def pairs(count):
    return Dataset.from_dict(
        {"chosen": ["the food was great"] * count, "rejected": ["the food was awful"] * count}
    )


def main(args: RewardConfig, *, model=places.CAUSAL):
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    network.config.pad_token_id = tokenizer.pad_token_id
    return RewardTrainer(
        model=network,
        args=args,
        train_dataset=pairs(32),
        eval_dataset=pairs(16),
        processing_class=tokenizer,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=main,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-2)},
    fixed={"max_steps": 4, "max_length": 16, "gradient_accumulation_steps": 2},
    first_params=[{"learning_rate": 1e-2}],
    evals_per_trial=2,
)
