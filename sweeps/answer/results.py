"""The results of a sweep: its trials by their best report, as a table's rows and as JSON.

Runs wherever someone looks; reads the sweep's folder alone. It must not know how it is shown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.records.event_log import is_held
from sweeps.records.folder import SweepFolder
from sweeps.records.history import (
    History,
    SweepStatus,
    judged_by,
    read_history,
    sweep_status,
    trial_status,
)
from sweeps.records.lease import is_running
from sweeps.records.trial import Trial

BEST = (
    *("trial", "value", "epoch", "step", "progress", "params", "checkpoint"),
    *("repeat_of", "mean", "mean_error"),
)
"""What is said of the best trial; the last three where params are repeated."""


@dataclass(frozen=True)
class Results:
    """What a sweep's folder says at one moment."""

    folder: SweepFolder
    record: dict[str, Any]
    """`sweep.json`."""
    history: History
    status: SweepStatus

    def in_json(self) -> dict[str, Any]:
        """Return the results as `results --json` prints them; trials best first."""
        trials = [self._trial(trial) for trial in self.history.ranked()]
        winner = self.history.winner()
        best = None
        if winner is not None:
            best = {key: value for key, value in self._trial(winner).items() if key in BEST}
        return {
            "sweep": self.folder.id,
            "space": self.record["space"],
            "metric": self.history.metric,
            "mode": self.history.mode,
            "status": self.status,
            "best": best,
            "trials": trials,
        }

    def _trial(self, trial: Trial) -> dict[str, Any]:
        train_s, device_s = trial.train_s, trial.device_s
        status = trial_status(trial, self.status)
        if status == "running":
            train_s, device_s = train_s + trial.running_train_s, trial.device_s_by(time.time())
        best = self.history.best(trial)
        checkpoint = trial.checkpoints.get("best")
        return {
            "trial": trial.id,
            "status": status,
            "failure": trial.failure,
            "value": best.metrics[self.history.metric] if best else None,
            "epoch": finite(best.epoch) if best else None,
            "step": best.step if best else None,
            "progress": best.progress if best else None,
            "params": finite(trial.params),
            "reports": len(trial.reports),
            "train_s": train_s,
            "device_s": device_s,
            "checkpoint": self.folder.place(checkpoint.path) if checkpoint else None,
            **self._repeats(trial),
        }

    def _repeats(self, trial: Trial) -> dict[str, Any]:
        """Return what the trial's params come to over all seeds, where there are several."""
        if self.history.repeats == 1:
            return {}
        own = self.history.set_of(trial)
        return {"repeat_of": trial.of, "mean": own.mean, "mean_error": own.error}


def finite(value: Any) -> Any:
    """Return the value with non-finite numbers as None, which strict JSON needs."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_results(folder: SweepFolder) -> Results:
    """Return the results of a sweep, running or not."""
    record = folder.record()
    held = is_held(folder.events_file) or is_running(
        folder
    )  # asked first: an end that is then read was written
    history = read_history(folder.events_file, *judged_by(record))
    return Results(folder, record, history, sweep_status(history, held))


def standard_error(history: History) -> float | None:
    """Return the standard error of what the winner is judged by, or None where it is not known.

    Over the seeds where params are repeated; else that of an accuracy, which is binomial:
    sqrt(p (1 - p) / n) over the n evaluation rows.
    """
    winner = history.winner()
    if winner is not None and history.repeats > 1:
        return history.set_of(winner).error
    best = history.best(winner) if winner else None
    if best is None or not history.metric.endswith("accuracy") or not best.eval_rows:
        return None
    share = best.metrics[history.metric]
    if not 0 <= share <= 1:  # in percent, or no accuracy at all
        return None
    return math.sqrt(share * (1 - share) / best.eval_rows)


def gain(history: History) -> float | None:
    """Return how much better the winner is than `first_params[0]`, if they have run."""
    winner, first = history.winner(), history.baseline()
    if winner is None or first is None:
        return None
    won, began = history.set_of(winner).mean, history.set_of(first).mean
    assert won is not None
    assert began is not None
    return won - began if history.mode == "max" else began - won
