"""Closed-form curves in place of training: 16 steps of a one-weight model, metrics by formula."""

import os
import signal

import torch
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace

STEPS = 16


class OneWeight(torch.nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([weight]))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict:
        return {"loss": (self.weight * x).square().mean()}


class CurveTrainer(Trainer):
    """Judges by `curve(progress)`; everything else is HF's own."""

    def __init__(self, curve, **kwargs) -> None:
        super().__init__(**kwargs)
        self._curve = curve

    def evaluate(self, *args, **kwargs):
        metrics = self._curve(self.state.global_step / self.state.max_steps)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def build(
    args: TrainingArguments, *, height: float = 0.5, shape: str = "rises", at: float = 0.5
) -> Trainer:
    """`shape`: rises; falls after `at`; nan, raises or dies (by SIGKILL) from `at` on."""

    def curve(progress: float) -> dict[str, float]:
        value = height * progress
        if progress >= at:
            if shape == "raises":
                raise ValueError(f"the curve of height {height} raises")
            if shape == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if shape == "nan":
                value = float("nan")
            if shape == "falls":
                value = height * (2 * at - progress)
        return {"eval_score": value, "eval_loss": 1.0 - value}

    rows = [{"x": torch.ones(1)} for _ in range(STEPS * args.train_batch_size * args.world_size)]
    return CurveTrainer(
        curve, model=OneWeight(height), args=args, train_dataset=rows, eval_dataset=rows[:10]
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"height": tune.uniform(0.0, 1.0), "learning_rate": tune.loguniform(1e-5, 1e-3)},
    fixed={"num_train_epochs": 1, "per_device_train_batch_size": 2},
    first_params=[{"height": 0.5, "learning_rate": 1e-4}],
    evals_per_trial=8,
)
