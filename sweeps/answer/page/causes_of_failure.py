"""Failures by cause: what went wrong, in how many trials, and how often a retry followed.

Pure functions. They must not know how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.records.history import History

FAULTS = ("error", "out_of_memory", "stalled", "diverged", "preempted", "crowded", "interrupted")
"""Outcomes of attempts that went wrong, and of trials without an attempt."""
WIDEST = 300
"""Maximum number of characters of a message that are shown."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Attempts that ended with the same message."""

    kind: str
    message: str
    attempts: int
    """Number of these attempts."""
    failed: Sequence[str]
    """Trials that failed for good, with this as their last message."""


def find_causes(history: History) -> tuple[Cause, ...]:
    """Return what went wrong in the trials of a search, the most frequent first."""
    attempts: dict[tuple[str, str], int] = {}
    failed: dict[tuple[str, str], list[str]] = {}
    for trial in history.trials.values():
        last: tuple[str, str] | None = None
        for attempt in trial.attempts:
            if attempt.outcome in FAULTS:
                last = attempt.outcome, _short(attempt.message or "")
                attempts[last] = attempts.get(last, 0) + 1
        if trial.status == "failed":
            if trial.diverged is not None or last is None:
                last = trial.failure or "error", _short(trial.reason or "")
                attempts[last] = attempts.get(last, 0) + 1
            failed.setdefault(last, []).append(trial.id)
    found = [
        Cause(kind=kind, message=message, attempts=times, failed=failed.get((kind, message), ()))
        for (kind, message), times in attempts.items()
    ]
    return tuple(sorted(found, key=lambda cause: (-len(cause.failed), -cause.attempts)))


def _short(message: str) -> str:
    return message if len(message) <= WIDEST else f"{message[: WIDEST - 1]}…"
