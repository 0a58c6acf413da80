"""What the exchange receives from workers and Tune, and what it passes on to the sweep process.

Created in the workers and in the exchange. It must not know about Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sweeps.records.events import Event, Phase
from sweeps.report import Steps
from sweeps.workers.isolation.patches import Patched

LeftBy = Literal["done", "paused", "preempted", "misplaced"]
"""Why a rank left its job cleanly: the trial ended; or its state was saved because the trial pauses
or the node is draining; or the trial does not match the patches of earlier trials."""
Memory = Literal["device", "host"]
"""Whose memory ran out: that of a GPU, or that of the host."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A worker of a group, before its job."""

    node: str
    """Id of its node."""
    gpu: str | None
    """Ray's id of its GPU on that node; None: no GPU."""
    memory_kills: int
    """Number of processes that its node has killed so far because host memory ran out."""


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Says that a rank has left its job cleanly."""

    rank: int
    train_s: float
    """Seconds inside `Trainer.train()`."""
    memory: int
    """Bytes of host memory that its process does not share with others."""
    memory_kills: int
    """As in `Member`."""
    reason: LeftBy
    """Why it left."""
    patched: Patched
    """What the job has changed for later jobs."""
    own_files: Mapping[str, str]
    """Digests of the user's Python files that it has imported from outside the sweep's copy."""


@dataclass(frozen=True, kw_only=True)
class JobError:
    """What a rank raised."""

    rank: int
    message: str
    """Type and text in one line."""
    traceback: str
    out_of_memory: Memory | None
    """Whose memory ran out; None: it was another error."""
    storage: bool
    """Whether a disk or quota is full, or the storage is unavailable."""
    phase: Phase
    """What the trial was doing."""
    fixable: bool
    """Whether it is a `UserError`, which would come again if the trial were retried."""
    connection: bool
    """Whether the rank only lost its peers, so that another rank is the cause."""


@dataclass(frozen=True)
class TrialWanted:
    """Says that Tune asks for a trial; sent among the events, so that it is answered in order."""


@dataclass(frozen=True)
class Note:
    """A line for the user; sent among the events, but not logged."""

    text: str


@dataclass(frozen=True)
class SmokeStarted:
    """Says that a group took the smoke run's job; sent among the events, but not logged."""


Message = Event | TrialWanted | Note | SmokeStarted | Steps
"""What the sweep process receives, in the order in which it happened."""
