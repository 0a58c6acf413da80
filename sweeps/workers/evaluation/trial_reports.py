"""What a trial reports of an evaluation: its metrics, and what happened since the last report.

Runs in a worker, on every rank. It must not know when a report is due or what follows from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from transformers import Trainer, TrainerState

from sweeps.report import LogEntry, Report
from sweeps.workers.evaluation.judged_rows import JudgedRows
from sweeps.workers.evaluation.reported_numbers import numbers_of, unbox
from sweeps.workers.signals import Signals


class TrialReports:
    """The reports of one attempt of a trial.

    Args:
        trial: Trial id.
        attempt: Number of the attempt.
        metric: The judged metric.
        signals: Receives each log entry.
    """

    def __init__(self, trial: str, attempt: int, metric: str, signals: Signals) -> None:
        self._trial = trial
        self._attempt = attempt
        self._metric = metric
        self._signals = signals
        self._rows: JudgedRows | None = None
        self._log_entries: list[LogEntry] = []
        self._logged = 0
        """Number of entries in HF's log up to the latest report."""
        self._started = time.monotonic()
        self._trained_from = (self._started, 0)
        """Time and step at which training continued after the latest report."""
        self._rows_per_s: float | None = None
        """Train rows per second since the latest report."""

    def attach(self, trainer: Trainer) -> None:
        """Watch the evaluations of a trainer."""
        self._rows = JudgedRows(trainer, self._metric)

    def detach(self) -> None:
        """Drop the trainer."""
        self._rows = None

    def begin(self, state: TrainerState, last: int) -> None:
        """Start the clock when the training begins, maybe from a saved state.

        Args:
            state: HF's state.
            last: The step of the latest report; later log entries belong to the next one.
        """
        self._started = time.monotonic()
        self._trained_from = (self._started, state.global_step)
        self._logged = len(state.log_history)
        for logs in state.log_history:
            if logs["step"] > last:
                self.log(int(logs["step"]), logs)

    def log(self, step: int, logs: Mapping[str, float]) -> None:
        """Keep the training loss for the next report."""
        if "loss" in logs:
            loss, rate = float(logs["loss"]), logs.get("learning_rate")
            self._signals.log_entry = LogEntry(step=step, loss=loss, learning_rate=rate)
            self._log_entries.append(self._signals.log_entry)

    def training_pauses(self, step: int) -> None:
        """Measure the speed of the training since the latest report, before an evaluation."""
        since, before = self._trained_from
        seconds = time.monotonic() - since
        rows = (step - before) * self._signals.rows_per_step
        self._rows_per_s = rows / seconds if seconds > 0 else None

    def training_continues(self, step: int) -> None:
        """Start to measure the speed again, after a report."""
        self._trained_from = (time.monotonic(), step)

    def report(self, number: int, trainer: Trainer, metrics: Mapping[str, Any]) -> Report:
        """Return report `number`, with the metrics of an evaluation."""
        assert self._rows is not None
        state: TrainerState = trainer.state
        logged = state.log_history[self._logged :]
        self._logged = len(state.log_history)
        for entry in logged:
            unbox(entry)
        numbers = numbers_of(metrics, self._metric, logged)
        judged = self._rows.take(numbers)
        entries, self._log_entries = tuple(self._log_entries), []
        ends_itself = trainer.control.should_training_stop and state.global_step < state.max_steps
        return Report(
            trial=self._trial,
            number=number,
            attempt=self._attempt,
            step=state.global_step,
            max_steps=state.max_steps,
            epoch=float(state.epoch or 0.0),
            metrics=numbers,
            ends_itself=ends_itself,
            eval_rows=judged.rows,
            labels_per_row=judged.labels_per_row,
            right_rows=judged.right,
            classes_differ=judged.classes_differ,
            majority=judged.majority,
            row_parts=judged.parts,
            train_s=time.monotonic() - self._started,
            rows_per_s=self._rows_per_s,
            memory_bytes=psutil.Process().memory_info().rss,
            gpu_memory_bytes=torch.cuda.max_memory_allocated() or None,
            log_entries=entries,
        )
