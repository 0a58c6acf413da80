"""Closed-form curves in place of training: 16 steps of a one-weight model, metrics by formula."""

import atexit
import os
import signal
import threading

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

    greedy = ""
    """What runs out of memory with many rows per device: training or evaluation."""

    def __init__(self, curve, **kwargs) -> None:
        super().__init__(**kwargs)
        self._curve = curve

    def training_step(self, *args, **kwargs):
        if self.greedy == "training" and self.args.per_device_train_batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().training_step(*args, **kwargs)

    def evaluate(self, *args, **kwargs):
        if self.greedy == "evaluation" and self.args.per_device_eval_batch_size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        metrics = self._curve(self.state.global_step / self.state.max_steps)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def build(
    args: TrainingArguments, *, height: float = 0.5, shape: str = "rises", at: float = 0.5
) -> Trainer:
    """What a trial does.

    `shape`: rises; falls after `at`; nan, raises, dies (by SIGKILL), stalls or grows (by 100 MB
    that stay) from `at` on; greedy_training, greedy_evaluation: runs out of memory with 8 rows.
    """

    def curve(progress: float) -> dict[str, float]:
        value = height * progress
        if progress >= at:
            if shape == "raises":
                raise ValueError(f"the curve of height {height} raises")
            if shape == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if shape == "stalls":
                threading.Event().wait()
            if shape == "grows":
                atexit.register(len, b"x" * 100_000_000)
            if shape == "nan":
                value = float("nan")
            if shape == "falls":
                value = height * (2 * at - progress)
        return {"eval_score": value, "eval_loss": 1.0 - value}

    rows = [{"x": torch.ones(1)} for _ in range(STEPS * args.train_batch_size * args.world_size)]
    trainer = CurveTrainer(
        curve, model=OneWeight(height), args=args, train_dataset=rows, eval_dataset=rows[:10]
    )
    trainer.greedy = shape.removeprefix("greedy_")
    return trainer


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"height": tune.uniform(0.0, 1.0), "learning_rate": tune.loguniform(1e-5, 1e-3)},
    fixed={"num_train_epochs": 1, "per_device_train_batch_size": 2},
    first_params=[{"height": 0.5, "learning_rate": 1e-4}],
    evals_per_trial=8,
)
