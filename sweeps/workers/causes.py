"""Why an attempt ended: the cause, picked from what several ranks and Ray Train say.

Runs in the exchange. It must not know what follows from a cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.records.events import AttemptOutcome
from sweeps.workers.job import JobError


@dataclass(frozen=True)
class Cause:
    """Why an attempt ended."""

    outcome: AttemptOutcome
    message: str | None = None
    traceback: str | None = None
    fixable: bool = False


def guilty(errors: list[JobError], died: Mapping[int, str]) -> Cause:
    """Pick the cause of a lost group from what several ranks say.

    A rank's own exception comes before a rank that died, and that before ranks that only lost
    their peers.

    Args:
        errors: What ranks raised, in the order in which they said it.
        died: What Train says of each rank that failed.
    """
    own = [error for error in errors if not error.connection]
    if own:
        return _raised(own[0])
    silent = {rank: text for rank, text in died.items() if rank not in {e.rank for e in errors}}
    for rank, text in (silent or died).items():
        return Cause("error", f"rank {rank} died: {text}")
    return _raised(errors[0]) if errors else Cause("error", "the worker group was lost")


def _raised(error: JobError) -> Cause:
    return Cause(
        "out_of_memory" if error.out_of_memory else "error",
        f"rank {error.rank}: {error.message}",
        error.traceback,
        error.fixable,
    )
