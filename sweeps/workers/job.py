"""What a worker gets: the sweep's definition once, then one job after another.

Made in the sweep process, carried by the exchange, opened in the workers. It must not know Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeps.records.events import Decision, Phase
from sweeps.records.folder import SweepFolder
from sweeps.workers.patches import Patched

SMOKE = "smoke"
"""Takes the place of a trial id in the smoke run's job, which belongs to no trial."""
LeftBy = Literal["done", "paused", "preempted", "misplaced"]
"""Why a rank left its job in good order: the trial ended; or, its state saved, the trial was to
pause, or the node is draining; or it does not fit what the trials before it had patched."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What is equal for all jobs of a sweep."""

    space: bytes
    """The space, from `pickled_space.py`; opened inside the job's error handling, not before."""
    folder: SweepFolder
    started_in: Path
    """The folder that relative paths in the user's code start from."""
    workers: int
    """Workers of a group."""
    gpu: bool
    """Whether each worker has a GPU or a share of one."""
    measures_gpu: bool
    """Whether to measure how much of its GPU a trial uses."""
    fresh_workers: bool
    """Whether a group ends after one job."""
    stall_timeout_s: float
    """A job without a step for this long is ended."""
    secrets: Mapping[str, str] = field(repr=False)
    """Environment variables that must not appear in Ray's logs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt of one trial, or of the smoke run."""

    trial: str
    """Trial id, or `SMOKE`."""
    attempt: int
    params: Mapping[str, Any]
    seed: int
    """HF `seed`."""
    checkpoint: str | None
    """HF folder to continue from, relative to the sweep's; None starts at step 0."""
    reduced: frozenset[Phase] = frozenset()
    """Phases that run with fewer rows per device, since memory ran out in them."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A worker of a group, before its job."""

    node: str
    """Id of its node."""
    gpu: str | None
    """Its GPU on that node, by Ray's id; None: it has none."""
    memory_kills: int
    """Processes that were killed there so far because host memory ran out."""


@dataclass(frozen=True, kw_only=True)
class Departure:
    """A rank has left its job in good order."""

    rank: int
    train_s: float
    """Seconds inside `Trainer.train()`."""
    memory: int
    """Bytes of host memory that its process does not share."""
    memory_kills: int
    """As in `Member`."""
    reason: LeftBy
    """Why it left."""
    patched: Patched
    """What the job has changed for those after it."""
    own_files: Mapping[str, str]
    """Digests of the user's Python files that it has imported from outside the sweep's copy."""


@dataclass(frozen=True, kw_only=True)
class JobError:
    """What a rank raised."""

    rank: int
    message: str
    """Type and text in one line."""
    traceback: str
    out_of_memory: bool
    storage: bool
    """Whether a disk or quota is full, or the storage is gone."""
    phase: Phase
    """What the trial was doing."""
    fixable: bool
    """Whether it is a `UserError`: every trial would fail in the same way."""
    connection: bool
    """Whether it only lost its peers: another rank is the cause."""
    train_s: float


@dataclass(frozen=True)
class TrialWanted:
    """Tune asks for a trial; stands among the events, so that it is answered in their order."""


@dataclass(frozen=True)
class Note:
    """A line for the user; stands among the events, but is not logged."""

    text: str


@dataclass(frozen=True)
class SmokeStarted:
    """A group took the smoke run's job; stands among the events, but is not logged."""


@dataclass(frozen=True)
class Reply:
    """The part of a decision that workers act on."""

    decision: Decision
    save_best: bool
    save_state: bool


@dataclass(frozen=True)
class Order:
    """What a worker does besides its job."""

    what: Literal["end", "dump", "name a step", "save"]
    """End the process; write the stacks of all threads, then end; name a step to save at; save at
    that step and leave the job."""
    trial: str | None = None
    step: int | None = None
    """Optimizer step, for `save`."""
