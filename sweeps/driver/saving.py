"""What to save of a trial at a report: its best model, its complete state.

Pure functions in the sweep process. They must not know why a trial continues, stops or pauses.
"""

from __future__ import annotations

from datetime import timedelta

from sweeps.records.history import History
from sweeps.records.trial import Trial
from sweeps.report import Report


def saves_best(report: Report, history: History, keep: int) -> bool:
    """Tell whether a report that was just applied may be the one that gets exported.

    It must be the best of its params set, with fewer than `keep` sets ahead of that set.
    """
    is_best, ahead = history.beats(report)
    return is_best and ahead < keep


def state_is_due(report: Report, history: History, every: timedelta) -> bool:
    """Tell whether enough training time has passed in this attempt since the last state."""
    trial = history.trials[report.trial]
    saved_at = max(
        (
            earlier.train_s
            for earlier in trial.reports
            if earlier.attempt == report.attempt
            and (decision := trial.decisions.get(earlier.number)) is not None
            and decision.save_state
        ),
        default=0.0,
    )
    return timedelta(seconds=report.train_s - saved_at) >= every


def owed_save(trial: Trial, history: History, keep: int) -> int | None:
    """Return the number of the report that should have been saved as best, but was not."""
    best, saved = history.best(trial), trial.checkpoints.get("best")
    if best is None or (saved is not None and saved.number == best.number):
        return None
    decided = trial.decisions.get(best.number)
    kept = history.wants(trial, keep)
    return best.number if decided is not None and decided.save_best and kept else None
