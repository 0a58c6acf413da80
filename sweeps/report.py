"""What a trial says at one evaluation, and the one rule of which report is the best.

Made by the workers, judged by the sweep process, read back by everyone. It must not know
where a report travels or how it is stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["max", "min"]


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One line of HF's training log."""

    step: int
    """Optimizer steps done."""
    loss: float | None = None
    """Training loss as HF logs it: the mean since the last log."""
    learning_rate: float | None = None
    """Learning rate of the first parameter group."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a trial says at one evaluation; its key is (`trial`, `number`)."""

    trial: str
    """Trial id, `t001`."""
    number: int
    """Evaluation number within the trial, from 1; the same in every attempt."""
    attempt: int = 1
    """Attempt that said it, from 1."""
    step: int
    """Optimizer steps done."""
    max_steps: int
    """Optimizer steps planned for the whole trial."""
    epoch: float
    """Epochs done, as HF counts them."""
    metrics: Mapping[str, float]
    """HF's evaluation metrics by their HF names (`eval_accuracy`); values may be non-finite."""
    eval_rows: int | None = None
    """Rows of the evaluation set; None where the dataset has no length."""
    train_s: float
    """Seconds inside `Trainer.train()` so far in this attempt, evaluations included."""
    log_entries: tuple[LogEntry, ...] = ()
    """The training log since the last report, oldest first."""

    @property
    def progress(self) -> float:
        """Optimizer steps done / planned, in (0, 1]."""
        return self.step / self.max_steps

    def non_finite(self, metric: str) -> str | None:
        """Name what is not a finite number: the metric, a loss; None if all are finite."""
        judged = {
            name: self.metrics[name] for name in (metric, "eval_loss") if name in self.metrics
        }
        for name, value in judged.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        for entry in self.log_entries:
            if entry.loss is not None and not math.isfinite(entry.loss):
                return f"the training loss is {entry.loss} at step {entry.step}"
        return None


def better(value: float, than: float | None, mode: Mode) -> bool:
    """Tell whether `value` beats `than` strictly; a non-finite value beats nothing."""
    if not math.isfinite(value):
        return False
    if than is None or not math.isfinite(than):
        return True
    return value > than if mode == "max" else value < than


def best_report(reports: Iterable[Report], metric: str, mode: Mode) -> Report | None:
    """Return the report with the best finite `metric`, the earliest of equals, or None."""
    best: Report | None = None
    for report in reports:
        value = report.metrics.get(metric, math.nan)
        if better(value, best.metrics[metric] if best else None, mode):
            best = report
    return best
