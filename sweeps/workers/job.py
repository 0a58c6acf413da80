"""What a worker receives: the sweep's definition once, then one job after another.

Created in the sweep process, passed on by the exchange, and opened in the workers. It must not know
about Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeps.records.events import Decision, Phase
from sweeps.records.folder import SweepFolder
from sweeps.workers.isolation.patches import Patched

SMOKE = "smoke"
"""Replaces the trial id in the smoke run's job, which belongs to no trial."""
LeftBy = Literal["done", "paused", "preempted", "misplaced"]
"""Why a rank left its job cleanly: the trial ended; or its state was saved because the trial pauses
or the node is draining; or the trial does not match the patches of earlier trials."""

Memory = Literal["device", "host"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What is the same for all jobs of a sweep."""

    space: bytes
    """The pickled space, see `pickled_space.py`; opened only inside the job's error handling."""
    folder: SweepFolder
    started_in: Path
    """The folder that relative paths in the user's code start from."""
    workers: int
    """Number of workers in a group."""
    gpu: bool
    """Whether each worker has a GPU or a fraction of one."""
    measures_gpu: bool
    """Whether to measure how much of its GPU a trial uses."""
    fresh_workers: bool
    """Whether a group ends after one job."""
    stall_timeout_s: float
    """A job ends after this many seconds without a step."""
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
    """HF checkpoint folder to continue from, relative to the sweep's folder; None: start at step
    0."""
    reduced: frozenset[Phase] = frozenset()
    """Phases that run with fewer rows per device, because memory ran out in them."""


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
    train_s: float


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


@dataclass(frozen=True)
class Reply:
    """The part of a decision that workers act on."""

    decision: Decision
    save_best: bool
    save_state: bool


@dataclass(frozen=True)
class Order:
    """An order to a worker, in addition to its job."""

    what: Literal["end", "dump", "name a step", "save"]
    """End the process; write the stacks of all threads and then end; name a step to save at; save
    at that step and leave the job."""
    trial: str | None = None
    step: int | None = None
    """Optimizer step, for `save`."""
