"""The interface of a tracker, and the updates that it gets: plain values, independent of any tool.

Imported by the sweep process, which checks trackers, and by each tracker's own process. It must
not know any tracker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from sweeps.answer.answer import Answer
from sweeps.config import SweepConfig
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.trackers.state import TrackerState

SWEEP = ""
"""The key of the sweep's own run; the others have trial ids as keys."""
RunStatus = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class Point:
    """One value of a metric; always a finite number."""

    name: str
    value: float
    time: float
    """Unix time in seconds."""
    step: int
    """Optimizer steps done; in the sweep's own run, reports of all trials so far."""


@dataclass(frozen=True)
class NewRun:
    """What a run is created with, if the tracker does not have it yet."""

    name: str
    started: float
    """Unix time in seconds."""
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DataUse:
    """A dataset, and what it is used for."""

    name: str
    source: str
    """Hub name or local folder."""
    on_hub: bool
    settings: Mapping[str, Any]
    """What else identifies these rows: configuration, commit, limits."""
    use: Literal["training", "evaluation"]


@dataclass
class RunUpdate:
    """What is new in one run."""

    key: str
    """A trial id, or `SWEEP`."""
    new: NewRun
    points: list[Point] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    """A trial's params, with the builder's fields and the fixed arguments. The sweep's own run has
    the domains as text instead of a trial's params."""
    tags: dict[str, str] = field(default_factory=dict)
    data: list[DataUse] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    """Texts by file name: the traceback of each attempt that failed."""
    status: RunStatus | None = None
    """None: unchanged."""
    ended: float | None = None
    """Unix time in seconds; None while the run continues."""


class Tracker(Protocol):
    """Copies one sweep into another tool; runs in a separate process, which may be killed.

    A new process makes a new tracker with the saved state and continues after `state.offset`. After
    a kill, the updates of the last write are repeated, so writing must be idempotent: equal events
    give equal updates with equal times.

    Args:
        folder: The sweep's folder.
        record: The content of `sweep.json`.
        state: The state, read from disk, and saved after each `write` and `close`. A tracker that
            cannot continue from there sets `offset` to 0 and gets the complete log.

    All methods raise the same errors. If the tool rejects a value or a file, nothing is raised: it
    is passed to `rejected.py`.

    Raises:
        SweepError: The tool cannot be reached now. The call is retried, but only for a limited time
            after the sweep has ended.
        OSError: Same as SweepError.
        UserError: The tool cannot be used as it is. The process ends, and the sweep reports it.
        ImportError: Same as UserError.
    """

    environment: ClassVar[Mapping[str, str]] = {}
    """Environment variables of its process."""
    unused: ClassVar[Sequence[str]] = ()
    """Packages that its tool would import but does not need, to save memory and time."""

    def __init__(self, folder: SweepFolder, record: SweepRecord, state: TrackerState) -> None:
        pass

    @classmethod
    def check(cls, config: SweepConfig) -> None:
        """Check, within seconds and in the sweep process, that the tool can be used.

        Raises:
            UserError: The tool cannot be used.
        """
        return  # a tool that is always available

    @classmethod
    def has_lost(cls, folder: SweepFolder, record: SweepRecord, state: TrackerState) -> bool:
        """Tell at once whether what was written is gone; False if finding out would take longer."""
        return False

    def write(self, updates: Sequence[RunUpdate]) -> None:
        """Bring the runs up to date; the sweep's own run comes first."""

    def close(self, answer: Answer) -> None:
        """Write the answer; the sweep has ended or was interrupted, and may be resumed later."""
