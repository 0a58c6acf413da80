"""Why an attempt ended: the cause, picked from what several ranks and Ray Train say.

Runs in the exchange and in the sweep process. It must not know what follows from a cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.records.events import AttemptOutcome, Phase
from sweeps.workers.job import JobError


@dataclass(frozen=True)
class Cause:
    """Why an attempt ended."""

    outcome: AttemptOutcome
    message: str | None = None
    traceback: str | None = None
    fixable: bool = False
    phase: Phase | None = None
    """What did not fit, where memory ran out."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What the sweep process sees of a group that is lost."""

    died: Mapping[int, str] = field(default_factory=dict)
    """What Train says of each rank that failed, in one line each."""
    node_gone: bool = False
    """Whether a node of the group is no longer there."""
    memory_ran_out: bool = False
    """Whether the operating system or Ray killed a process for want of host memory."""


def guilty(errors: Sequence[JobError], loss: Loss) -> Cause:
    """Pick the cause of a lost group from what several ranks say.

    A rank's own exception comes before a rank that died, and that before ranks that only lost
    their peers.

    Args:
        errors: What ranks raised, in the order in which they said it.
        loss: What the sweep process sees.
    """
    own = [error for error in errors if not error.connection]
    if own:
        return _raised(own[0])
    if loss.node_gone:
        return Cause("preempted", "a node of its group went away")
    silent = {
        rank: text for rank, text in loss.died.items() if rank not in {e.rank for e in errors}
    }
    for rank, text in (silent or loss.died).items():
        if loss.memory_ran_out:
            # Nobody saw what it was doing; most memory is taken in training.
            return Cause("out_of_memory", f"rank {rank} died: {text}", phase="training")
        return Cause("error", f"rank {rank} died: {text}")
    return _raised(errors[0]) if errors else Cause("error", "the worker group was lost")


def _raised(error: JobError) -> Cause:
    if error.storage:
        # Not the trial's fault: it goes on from its checkpoint once that is mended.
        text = f"rank {error.rank}: the storage fails: {error.message}; mend it, then resume"
        return Cause("interrupted", text, error.traceback, fixable=True)
    return Cause(
        "out_of_memory" if error.out_of_memory else "error",
        f"rank {error.rank}: {error.message}",
        error.traceback,
        error.fixable,
        error.phase if error.out_of_memory else None,
    )
