"""A shipped builder, changed: as a subclass, and as a function around it."""

from dataclasses import dataclass

import torch
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace
from sweeps.builders.text_classification import TextClassification

MODEL = "distilbert/distilbert-base-uncased"
DATASET = "cornell-movie-review-data/rotten_tomatoes"


def drop(trainer: Trainer, share: float) -> Trainer:
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
    return trainer


@dataclass(frozen=True, kw_only=True)
class WithDropout(TextClassification):
    dropout: float = 0.1

    def __call__(self, args: TrainingArguments, *, data) -> Trainer:
        return drop(super().__call__(args, data=data), self.dropout)


def with_dropout(args, *, model=MODEL, dataset=DATASET, dropout: float = 0.1) -> Trainer:
    """The same as a function, as `build_trainer=with_dropout`."""
    builder = TextClassification(model=model, dataset=dataset)
    return drop(builder(args, data=builder.prepare()), dropout)


SEARCH_SPACE = SearchSpace(
    build_trainer=WithDropout(model=MODEL, dataset=DATASET),
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-4), "dropout": tune.uniform(0.0, 0.3)},
    fixed={"num_train_epochs": 2},
)
