"""The results of a sweep: its trials ranked by their best report, as table rows and as JSON.

Runs in any process; reads only the sweep's folder. It must not know how the results are shown.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweeps.answer.answer import Answer, find_answer, finite
from sweeps.records.checkpoints import is_whole
from sweeps.records.event_log import is_held
from sweeps.records.events import Event
from sweeps.records.folder import SweepFolder
from sweeps.records.history import (
    History,
    SweepStatus,
    fold,
    sweep_status,
    trial_status,
)
from sweeps.records.lease import is_running
from sweeps.records.sweep_record import SweepRecord, read_record
from sweeps.records.trial import Trial

BEST = (
    *("trial", "value", "epoch", "step", "progress", "params", "checkpoint", "checkpoint_gone"),
    *("repeat_of", "mean", "mean_error"),
)
"""The fields of the best trial; the last three only if params are repeated."""


@dataclass(frozen=True)
class Results:
    """The content of a sweep's folder at a given moment."""

    folder: SweepFolder
    record: SweepRecord
    """`sweep.json`."""
    history: History
    status: SweepStatus
    events: Sequence[Event]
    """The events in the history."""

    @cached_property
    def answer(self) -> Answer:
        """What the sweep had found by then."""
        now = time.time() if self.status == "running" else None
        return find_answer(self.history, self.status, now)

    def in_json(self) -> dict[str, Any]:
        """Return the results as `results --json` prints them; trials best first."""
        trials = [self._trial(trial) for trial in self.history.ranked()]
        answer, best = self.answer, None
        if answer.winner is not None:
            row = next(trial for trial in trials if trial["trial"] == answer.winner.trial)
            best = {key: value for key, value in row.items() if key in BEST}
        return {
            "sweep": self.folder.id,
            "space": self.record.space.name,
            "metric": self.history.metric,
            "mode": self.history.mode,
            "status": self.status,
            "best": best,
            "answer": answer.in_json(),
            "trials": trials,
        }

    def _trial(self, trial: Trial) -> dict[str, Any]:
        train_s, device_s = trial.train_s, trial.device_s
        if trial.status == "running":  # or it was when the sweep was interrupted
            until = time.time() if self.status == "running" else self.history.newest
            assert until is not None, "it has started"
            train_s, device_s = train_s + trial.running_train_s, trial.device_s_by(until)
        best = self.history.best(trial)
        checkpoint = trial.checkpoints.get("best")
        return {
            "trial": trial.id,
            "status": trial_status(trial, self.status),
            "failure": trial.failure,
            "reason": trial.reason,
            "phase": trial.attempts[-1].phase if trial.reason and trial.attempts else None,
            "traceback": traceback_file(self.folder, trial),
            "value": best.metrics[self.history.metric] if best else None,
            "epoch": finite(best.epoch) if best else None,
            "step": best.step if best else None,
            "progress": best.progress if best else None,
            "params": finite(trial.params),
            "reports": len(trial.reports),
            "train_s": train_s,
            "device_s": device_s,
            "checkpoint": self.folder.place(checkpoint.path) if checkpoint else None,
            "checkpoint_gone": checkpoint is not None and is_gone(self.folder, checkpoint.path),
            **self._repeats(trial),
        }

    def _repeats(self, trial: Trial) -> dict[str, Any]:
        """Return the result of the trial's params over all seeds, if there are several."""
        if self.history.repeats == 1:
            return {}
        own = self.history.set_of(trial)
        return {"repeat_of": trial.of, "mean": own.mean, "mean_error": own.error}


def is_gone(folder: SweepFolder, checkpoint: str) -> bool:
    """Tell whether somebody deleted a checkpoint; on object storage, this is not looked up."""
    return folder.storage is None and not is_whole(folder.path / checkpoint)


def traceback_file(folder: SweepFolder, trial: Trial) -> str | None:
    """Return the path of a failed trial's traceback; None if there is none on this machine."""
    if not trial.reason or not trial.attempts:
        return None
    file = folder.traceback(trial.id, trial.attempts[-1].attempt)
    return str(file) if file.exists() else None


def read_results(folder: SweepFolder) -> Results:
    """Return the results of a sweep, running or not."""
    record = read_record(folder)
    # Checked before the log is read; otherwise a sweep that ends in between would look interrupted.
    held = is_held(folder.events_file) or is_running(folder)
    history = History(*record.judged_by)
    events = fold(folder.events_file, history)
    return Results(folder, record, history, sweep_status(history, held), events)
