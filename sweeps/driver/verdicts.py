"""What follows from the end of an attempt: the trial ends or runs again, or the sweep ends.

Pure functions in the sweep process. They must not know how a trial is restarted.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sweeps.records.events import AttemptEnded, FailureKind, Phase, TrialEnded
from sweeps.records.history import History
from sweeps.records.trial import Trial


def verdict(
    trial: Trial,
    attempt: AttemptEnded,
    *,
    max_failures: int,
    may_take_fewer_rows: Callable[[Phase], bool],
) -> TrialEnded | None:
    """Return how the trial ended; None if it must run again or is paused.

    Args:
        trial: The trial as it was before this attempt ended.
        attempt: The end of the attempt.
        max_failures: Further attempts after errors and stalls.
        may_take_fewer_rows: Tells whether a phase has more than one row per device.
    """

    def failed(kind: FailureKind) -> TrialEnded:
        return TrialEnded(trial=trial.id, status="failed", failure=kind)

    outcome = attempt.outcome
    if outcome == "done":
        if trial.reports and trial.reports[-1].number in trial.decisions:
            # Its own code ended it after that report, or it was too short for its last one.
            return end_of_course(trial) or TrialEnded(trial=trial.id, status="finished")
        return failed("error")
    if outcome in ("paused", "interrupted", "preempted", "crowded"):
        return None
    if outcome == "out_of_memory":
        phase = attempt.phase or "training"
        again = phase not in trial.reduced and may_take_fewer_rows(phase)
        return None if again else failed(outcome)
    assert outcome == "error" or outcome == "stalled", "a diverged trial ends its job normally"
    failures = [a for a in trial.attempts if a.outcome in ("error", "stalled")]
    twice = bool(failures) and attempt.traceback is not None
    twice = twice and _same(failures[-1].traceback, attempt.traceback)
    return failed(outcome) if twice or attempt.fixable or len(failures) >= max_failures else None


def end_of_course(trial: Trial) -> TrialEnded | None:
    """Return the end of a trial whose newest report was its last; otherwise None."""
    if trial.diverged:
        return TrialEnded(trial=trial.id, status="failed", failure="diverged")
    if not trial.reports or trial.reports[-1].number not in trial.decisions:
        return None
    if trial.reports[-1].is_last:
        return TrialEnded(trial=trial.id, status="finished")
    stopped = trial.decisions[trial.reports[-1].number].decision == "stop"
    return TrialEnded(trial=trial.id, status="stopped_early") if stopped else None


def is_own_failure(history: History, failed: Trial) -> bool:
    """Tell whether a `UserError` of a trial is probably due to its params.

    That is so if another trial has reported, unless the trial that ended before this one failed
    with the same error: then its cause may be one for all, such as a disk that is gone.
    """
    if all(report.trial == failed.id for report in history.reports):
        return False
    ended = (event.trial for event in reversed(history.course) if isinstance(event, TrialEnded))
    before = next((trial for trial in ended if trial != failed.id), None)
    attempts = history.trials[before].attempts[-1:] if before is not None else []
    newest = failed.attempts[-1]
    return not any(one.fixable and one.message == newest.message for one in attempts)


def common_bug(history: History, trials: int, newest: Trial) -> AttemptEnded | None:
    """Return the last attempt of the first `trials` trials if all failed in the same way.

    The same way means the same exception from the same lines of code, whatever its text. This
    applies only if `newest`, which has just ended, is one of them, so that a resume with the bug
    fixed continues. If params are repeated, the trials must cover at least two params sets, since
    one set may simply be bad.
    """
    if history.repeats > 1:
        trials = max(trials, history.repeats + 1)
    first = list(history.trials.values())[:trials]
    if newest not in first:
        return None
    ends = [trial.attempts[-1] for trial in first if trial.failure == "error"]
    if len(ends) < trials or any(end.traceback is None for end in ends):
        return None
    return ends[-1] if len({_place(end.traceback or "") for end in ends}) == 1 else None


def _same(one: str | None, other: str | None) -> bool:
    """Tell whether two tracebacks are equal, except for the addresses of objects."""
    address = re.compile(r"0x[0-9a-f]+")
    return address.sub("", one or "") == address.sub("", other or "")


def _place(traceback: str) -> tuple[str, ...]:
    """Return the code lines of a traceback and the type of its exception."""
    lines = traceback.strip().splitlines()
    kind = next((line for line in reversed(lines) if line and not line.startswith(" ")), "")
    return (*(line for line in lines if line.startswith("  File ")), kind.partition(":")[0])
