"""Trainers as people write them, on a model of one weight: 16 steps, 4 evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace

PARAMS = {"learning_rate": 0.05}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.w * x - labels).square().mean(), "logits": self.w * x}


def rows(count: int, labels: int = 1) -> list[dict[str, list[float]]]:
    return [{"x": [1.0] * labels, "labels": [float(i % 4 > 0)] * labels} for i in range(count)]


def hits(prediction: Any) -> dict[str, Any]:
    """Of a model that says 1 more and more."""
    return {"accuracy": ((prediction.predictions > 0.2) == prediction.label_ids).mean()}


def builder(kind: type[Trainer] = Trainer, **given: Any) -> Callable[[TrainingArguments], Trainer]:
    def build(args: TrainingArguments) -> Trainer:
        keywords = {"train_dataset": rows(64), "eval_dataset": rows(16), **given}
        callbacks = [make() for make in keywords.pop("callbacks", ())]
        trainer = kind(model=Net(), args=args, callbacks=callbacks, **keywords)
        for callback in callbacks:
            callback.trainer = trainer
        return trainer

    return build


def space_of(build: Callable[..., Any], metric: str = "eval_loss", **changes: Any) -> SearchSpace:
    whole: dict[str, Any] = {
        "mode": "min" if metric.endswith("loss") else "max",
        "tuned": {"learning_rate": tune.loguniform(1e-3, 1e-1)},
        "fixed": {"num_train_epochs": 2, "logging_steps": 2},
        "evals_per_trial": 4,
    }
    return SearchSpace(build_trainer=build, metric=metric, **whole | changes)
