"""What follows from the smoke run: the sweep's end, another try, or the trials.

Pure functions in the sweep process. They must not know how it is run.
"""

from __future__ import annotations

from sweeps.errors import SweepError, UserError
from sweeps.records.events import SmokeEnded, SmokeMeasured
from sweeps.records.history import History
from sweeps.workers.job import SMOKE

TRIES = 3
"""A smoke run that has lost its group so often, without an exception, is given up."""
FINDINGS = ("done", "out_of_memory")
"""Outcomes after which the trials begin."""


def is_due(history: History) -> bool:
    """Tell whether a sweep that wants a smoke run has none yet, and no trial that began."""
    if any(trial.job for trial in history.trials.values()):
        return False
    return history.smoke is None or history.smoke.outcome not in FINDINGS


def fault(ended: SmokeEnded, failures: int, where: str) -> SweepError | None:
    """Return why the sweep ends, or None where it goes on or tries again.

    Args:
        ended: How the smoke run ended.
        failures: Errors of this sweep process's smoke runs, with this one.
        where: The space's place, for messages.
    """
    if ended.fixable:
        # A disk that is full is not the space's fault.
        return UserError(ended.message or "", where if ended.outcome == "error" else None)
    if ended.outcome == "stalled":
        return SweepError(
            f"the smoke run stalled, before the first trial: {ended.message}; where its ranks"
            f" stood: logs/{SMOKE}-attempt{ended.attempt}-rank*.stacks"
        )
    if ended.outcome == "error" and ended.traceback is not None:
        return SweepError(f"the smoke run failed, before the first trial: {ended.message}")
    if ended.outcome == "error" and failures >= TRIES:
        return SweepError(
            f"the smoke run failed {failures} times, before the first trial: {ended.message}"
        )
    return None


def finding(ended: SmokeEnded, measured: SmokeMeasured | None) -> str | None:
    """Return a line on what is wrong and no reason to end: it may be these params' own fault."""
    goes_on = "the trials begin all the same: other params may do better"
    if ended.outcome == "out_of_memory":
        return f"the smoke run ran out of memory ({ended.message}); {goes_on}"
    if ended.outcome == "done" and measured is not None and measured.diverged:
        return f"the smoke run diverged ({measured.diverged}); {goes_on}"
    if ended.outcome in ("error", "preempted"):
        return f"the smoke run is tried again: {ended.message}"
    return None
