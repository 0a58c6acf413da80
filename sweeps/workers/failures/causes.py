"""Why an attempt ended: the cause, chosen from what the ranks and Ray Train report.

Runs in the exchange and in the sweep process. It must not know what follows from a cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.records.events import AttemptOutcome, Phase
from sweeps.workers.messages import JobError, LeftBy, Member, Memory

_KILLED_BY_RAY = ("running low on memory", "OutOfMemoryError")
"""Parts of the messages of Ray's memory monitor (2.60)."""
_NO_EXIT_CODE = "connection error code 2"
"""Part of Ray's message for a process that was ended by a signal, such as SIGKILL or SIGSEGV
(2.60)."""


@dataclass(frozen=True)
class Cause:
    """Why an attempt ended."""

    outcome: AttemptOutcome
    message: str | None = None
    traceback: str | None = None
    fixable: bool = False
    phase: Phase | None = None
    """The phase in which memory ran out, if it did."""
    memory: Memory | None = None
    """Whose memory ran out, if any did."""


LEFT: dict[LeftBy, Cause] = {
    "done": Cause("done"),
    "paused": Cause("paused"),
    "preempted": Cause("preempted", "a node of its worker group is draining"),
    "misplaced": Cause("preempted", "the trial needs fresh processes"),
}
"""The cause of the end of an attempt that every rank left cleanly."""


@dataclass(frozen=True, kw_only=True)
class LostGroup:
    """What the sweep process knows about a lost group."""

    died: Mapping[int, str] = field(default_factory=dict)
    """Ray Train's message for each rank that failed, one line each."""
    node_gone: bool = False
    """Whether a node of the group is gone."""
    for_memory: frozenset[int] = frozenset()
    """The ranks whose process the kernel or Ray killed because host memory ran out."""


def guilty(errors: Sequence[JobError], loss: LostGroup) -> Cause:
    """Choose the cause of a lost group from what several ranks report.

    A rank's own exception outranks a rank that died, which outranks ranks that only lost their
    peers.

    Args:
        errors: What ranks raised, in the order of their reports.
        loss: What the sweep process knows.
    """
    own = [error for error in errors if not error.connection]
    if own:
        return _raised(own[0])
    if loss.node_gone:
        return Cause("preempted", "a node of its worker group was lost")
    for rank in sorted(loss.for_memory):
        # Its phase is unknown; training takes the most memory.
        text = f"rank {rank} was killed because host memory ran out: {loss.died[rank]}"
        return Cause("out_of_memory", text, phase="training", memory="host")
    silent = loss.died.keys() - {error.rank for error in errors}
    for rank in sorted(silent or loss.died):
        return Cause("error", f"rank {rank} died: {loss.died[rank]}")
    if errors:
        return _raised(errors[0])
    return Cause("error", "the worker group was lost, and no rank reported why")


def left_no_exit_code(said: str) -> bool:
    """Tell from Ray's message whether a process may have been ended by a signal."""
    return _NO_EXIT_CODE in said


def killed_for_memory(
    died: Mapping[int, str], members: Mapping[int, Member], kills: Mapping[str, int]
) -> frozenset[int]:
    """Return the ranks whose process was killed because host memory ran out.

    Ray reports its own kills. For a kill by the kernel, Ray knows only that the process left no
    exit code. Such a process counts as killed if its node has counted a kill since the rank's job
    began.

    Args:
        died: Ray Train's message for each rank that failed.
        members: The group's workers, as they were when their job began.
        kills: The number of kills that each node has counted so far.
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
        # Not the trial's fault: it continues from its checkpoint once the storage is back.
        text = (
            f"rank {error.rank}: the storage is full or unavailable: {error.message}; free space or"
            " restore it, then resume the sweep"
        )
        return Cause("interrupted", text, error.traceback, fixable=True)
    return Cause(
        "out_of_memory" if error.out_of_memory else "error",
        f"rank {error.rank}: {error.message}",
        error.traceback,
        error.fixable,
        error.phase if error.out_of_memory else None,
        error.out_of_memory,
    )
