"""The search space of `scripts/chaos.py`: trials of 40 steps that take about a second.

Weights, dropout and row order all depend on state that a checkpoint must restore: a resume that
misses any of it produces different numbers.
"""

import time

import torch
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace

STEPS = 40
STEP_S = 0.005
FEATURES = 8


class Regression(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, FEATURES),
            torch.nn.Tanh(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(FEATURES, 1),
        )

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict:
        if self.training:
            time.sleep(STEP_S)
        predicted = self.layers(x).squeeze(-1)
        assert labels is not None
        return {"loss": (predicted - labels).square().mean(), "predicted": predicted}


def build(args: TrainingArguments) -> Trainer:
    source = torch.Generator().manual_seed(7)
    features = torch.randn(STEPS * 4 + 32, FEATURES, generator=source)
    rows = [{"x": x, "labels": x.sum()} for x in features]
    return Trainer(
        model=Regression(), args=args, train_dataset=rows[: STEPS * 4], eval_dataset=rows[-32:]
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_loss",
    mode="min",
    tuned={
        "learning_rate": tune.loguniform(1e-4, 1e-1),
        "weight_decay": tune.uniform(0.0, 0.1),
    },
    fixed={"num_train_epochs": 1, "per_device_train_batch_size": 4},
    first_params=[{"learning_rate": 1e-2, "weight_decay": 0.01}],
    evals_per_trial=8,
)
