"""Why an attempt ended: the cause, picked from what several ranks and Ray Train say.

Runs in the exchange and in the sweep process. It must not know what follows from a cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.records.events import AttemptOutcome, Phase
from sweeps.workers.job import JobError, Member

_KILLED_BY_RAY = ("running low on memory", "OutOfMemoryError")
"""What Ray's memory monitor says (2.60)."""
_NO_EXIT_CODE = "connection error code 2"
"""What Ray says of a process that a signal ended: SIGKILL as well as SIGSEGV (2.60)."""


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
class LostGroup:
    """What the sweep process sees of a group that is lost."""

    died: Mapping[int, str] = field(default_factory=dict)
    """What Train says of each rank that failed, in one line each."""
    node_gone: bool = False
    """Whether a node of the group is no longer there."""
    for_memory: frozenset[int] = frozenset()
    """Those of them whose process the kernel or Ray killed for want of host memory."""


def guilty(errors: Sequence[JobError], loss: LostGroup) -> Cause:
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
    for rank in sorted(loss.for_memory):
        # Nobody saw what it was doing; most memory is taken in training.
        text = f"rank {rank} was killed for want of host memory: {loss.died[rank]}"
        return Cause("out_of_memory", text, phase="training")
    silent = loss.died.keys() - {error.rank for error in errors}
    for rank in sorted(silent or loss.died):
        return Cause("error", f"rank {rank} died: {loss.died[rank]}")
    return _raised(errors[0]) if errors else Cause("error", "the worker group was lost")


def left_no_exit_code(said: str) -> bool:
    """Tell whether a process was gone as after a signal, by what Ray says of it."""
    return _NO_EXIT_CODE in said


def killed_for_memory(
    died: Mapping[int, str], members: Mapping[int, Member], kills: Mapping[str, int]
) -> frozenset[int]:
    """Return the ranks whose process was killed for want of host memory.

    Ray says so of its own kills. Of the kernel's it knows only that the process left no exit code;
    such a one, on a node that has counted a kill since the rank's job began, is taken for killed.

    Args:
        died: What Train says of each rank that failed.
        members: The group's workers, as they were when their job began.
        kills: What each node has counted by now.
    """
    return frozenset(
        rank
        for rank, text in died.items()
        if any(words in text for words in _KILLED_BY_RAY)
        or (
            left_no_exit_code(text)
            and (member := members.get(rank)) is not None
            and kills.get(member.node, 0) > member.memory_kills
        )
    )


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
