"""The space of `scale_tune.py`: each step is a report, and a trial does nothing but wait."""

import time

import torch
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace

REPORTS = 10


class OneWeight(torch.nn.Module):
    """The least that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict:
        """Return a loss."""
        return {"loss": (self.weight * x).square().mean()}


class Curve(Trainer):
    """Waits at each step, and reports how far it is."""

    def __init__(self, pause: float, **given) -> None:
        super().__init__(**given)
        self._pause = pause

    def training_step(self, *given, **named):
        """Wait, and take the step."""
        time.sleep(self._pause)
        return super().training_step(*given, **named)

    def evaluate(self, *given, **named):
        """Return metrics in closed form."""
        value = self.args.learning_rate * self.state.global_step
        metrics = {"eval_score": value, "eval_loss": 1.0 - value}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def build(args: TrainingArguments, *, pause: float = 0.5) -> Trainer:
    """Return a trainer of ten steps.

    Args:
        args: The trial's arguments.
        pause: Seconds of a step.
    """
    rows = [{"x": torch.ones(1)} for _ in range(REPORTS)]
    return Curve(pause, model=OneWeight(), args=args, train_dataset=rows, eval_dataset=rows[:1])


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"learning_rate": tune.uniform(0.0, 0.1)},
    fixed={"num_train_epochs": 1, "per_device_train_batch_size": 1},
    evals_per_trial=REPORTS,
)
