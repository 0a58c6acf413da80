"""What a worker is handed: the sweep's definition once, then one job after another.

Made in the sweep process, carried by the exchange, opened in the workers. It must not know Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.records.folder import SweepFolder


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What is equal for all jobs of a sweep."""

    space: bytes
    """The pickled `SearchSpace`; opened inside the job's error handling, not before."""
    folder: SweepFolder
    workers: int
    """Workers of a group."""
    gpu: bool
    """Whether each worker has a GPU or a share of one."""
    seed: int
    """HF `seed` where the space sets none."""
    fresh_workers: bool
    """Whether a group ends after one job."""
    secrets: Mapping[str, str] = field(repr=False)
    """Environment variables that must not stand in Ray's logs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt of one trial."""

    trial: str
    attempt: int
    params: Mapping[str, Any]
    checkpoint: Path | None
    """HF folder to go on from; None starts at step 0."""


@dataclass(frozen=True, kw_only=True)
class JobError:
    """What a rank raised."""

    rank: int
    message: str
    """Type and text in one line."""
    traceback: str
    out_of_memory: bool
    fixable: bool
    """Whether it is a `UserError`: no other trial will fare better."""
    connection: bool
    """Whether it only lost its peers: another rank is guilty."""
    train_s: float


@dataclass(frozen=True)
class Answer:
    """The part of a decision that workers act on."""

    stop: bool
    save_best: bool
    save_state: bool
