"""What a trial says at an evaluation and between two, and the one rule of which value is better.

Made by the workers, judged by the sweep process, read back by everyone. It must not know
where a report travels or how it is stored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
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
    """Optimizer steps planned for the complete trial."""
    epoch: float
    """Epochs done, as HF counts them."""
    metrics: Mapping[str, float]
    """HF's evaluation metrics by their HF names (`eval_accuracy`); values may be non-finite."""
    ends_itself: bool = False
    """Whether the trial's own code (an `EarlyStoppingCallback`, a time limit) ends it here, before
    all its steps."""
    eval_rows: int | None = None
    """Rows that the judged metric was computed from: those of its evaluation set. None where that
    is not known, as for a mean over several sets."""
    labels_per_row: int | None = None
    """Labels of each of these rows; None where that is not known."""
    right_rows: str | None = None
    """Which of these rows the model got right, where the judged metric is their share: a checksum
    of the labels, a colon, and a bit for each row in hexadecimal (10,000 rows: 2.5 kB). None where
    that is not known."""
    majority: float | None = None
    """Share of these rows that have the most frequent label: what a model would score that always
    gives that one. None where `right_rows` is, and in logs of before 2026-11-29."""
    row_parts: str | None = None
    """What each of these rows adds to a judged metric that is another ratio of two sums over rows,
    such as a mean loss: `records/row_values.py` (at most 5 kB). None where that is not
    known."""
    train_s: float
    """Seconds inside `Trainer.train()` so far in this attempt, evaluations included."""
    rows_per_s: float | None = None
    """Train rows a second since the last report, all workers together, without evaluations and the
    wait for decisions; None in logs of before 2026-11-29."""
    memory_bytes: int | None = None
    """Main memory of rank 0's process at the report; None: as above."""
    gpu_memory_bytes: int | None = None
    """Most memory of rank 0's GPU that torch had in use since the trial's start; None without one.
    """
    log_entries: tuple[LogEntry, ...] = ()
    """The training log since the last report, oldest first."""

    @property
    def progress(self) -> float:
        """Optimizer steps done / planned, in (0, 1]."""
        return self.step / self.max_steps

    @property
    def is_last(self) -> bool:
        """Whether the trial trains no further: it is through, or ends itself."""
        return self.progress >= 1 or self.ends_itself

    def non_finite(self, metric: str) -> str | None:
        """Name what shows that the trial has diverged; None if it has not.

        That is a training loss, the judged metric or `eval_loss` that is not a finite number. Two
        things may be NaN without harm: the judged metric at the first evaluation (a correlation of
        constant predictions), unless the trial ends there or `eval_loss` is NaN as well; and
        `eval_loss` where another metric judges and has a value (a batch without any label).
        """
        judged, loss = (self.metrics.get(name, 0.0) for name in (metric, "eval_loss"))
        has_no_value_yet = self.number == 1 and not self.is_last and not math.isnan(loss)
        if math.isinf(judged) or (math.isnan(judged) and not has_no_value_yet):
            return f"{metric} is {judged}"
        if math.isinf(loss):
            return f"eval_loss is {loss}"
        for entry in self.log_entries:
            if entry.loss is not None and not math.isfinite(entry.loss):
                return f"the training loss is {entry.loss} at step {entry.step}"
        return None


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How far a trial is between two reports: for people to see, and logged nowhere."""

    trial: str
    step: int
    """Optimizer steps done."""
    max_steps: int
    """Optimizer steps planned for the complete trial."""
    evaluating: bool
    """Whether it evaluates after these steps."""
    rows_per_s: float | None
    """Train rows a second, all workers together; None before it is known."""
    newest: LogEntry | None
    """The newest line of the training log."""


def may_be_share_of_rows(metric: str) -> bool:
    """Tell from its name whether a metric may be the share of rows that a model gets right.

    Accuracy is; that of tokens (`mean_token_accuracy`) and the mean over classes
    (`balanced_accuracy`) are not.
    """
    return metric.endswith("accuracy") and not re.search("token|balanced", metric)


def better(value: float, than: float | None, mode: Mode) -> bool:
    """Tell whether `value` beats `than` strictly; a non-finite value beats nothing."""
    if not math.isfinite(value):
        return False
    if than is None or not math.isfinite(than):
        return True
    return value > than if mode == "max" else value < than
