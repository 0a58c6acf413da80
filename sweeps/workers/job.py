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

SMOKE = "smoke"
"""Replaces the trial id in the smoke run's job, which belongs to no trial."""


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
