"""How far a tracker has got, and its files in a sweep's folder.

Written by the tracker's process, read by it after a restart and by whoever needs a link. It must
not know any tracker.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.records.event_log import is_held
from sweeps.records.folder import SweepFolder

GIVE_UP_S = 600.0
"""Seconds for which a tracker's process keeps trying after the sweep if its tool is unavailable."""


@dataclass
class TrackerState:
    """What a tracker remembers; it must also work if this is lost."""

    offset: int = 0
    """Bytes of the event log that were written to its tool."""
    own: dict[str, Any] = field(default_factory=dict)
    """What else it remembers, as JSON keeps it."""
    closed: bool = False
    """Whether the tracker has also written what it writes at the end of a sweep."""
    trouble: str | None = None
    """Why its process gave up; None if it did not."""


def load_state(folder: SweepFolder, name: str) -> TrackerState:
    """Return what the tracker saved last, or an empty state."""
    path = _state_file(folder, name)
    try:
        return TrackerState(**json.loads(path.read_text())) if path.exists() else TrackerState()
    except json.JSONDecodeError:  # torn by a power failure
        return TrackerState()


def save_state(state: TrackerState, folder: SweepFolder, name: str) -> None:
    """Write the state atomically: a kill leaves either the old or the new version.

    It is not flushed to disk: that would delay the event log, and a tracker can work without it.
    """
    path = _state_file(folder, name)
    path.parent.mkdir(exist_ok=True)
    aside = path.with_suffix(".json.new")
    aside.write_text(json.dumps(dataclasses.asdict(state), indent=1))
    aside.replace(path)


def _state_file(folder: SweepFolder, name: str) -> Path:
    return folder.trackers / f"{name}.json"


def is_up_to_date(folder: SweepFolder, name: str) -> bool:
    """Tell whether the tracker's tool has the whole log of a sweep that is not running."""
    state = load_state(folder, name)
    return state.closed and state.offset == folder.events_file.stat().st_size


def is_at_work(folder: SweepFolder, name: str) -> bool:
    """Tell whether a process of the tracker is still writing."""
    lock = lock_file(folder, name)
    return lock.exists() and is_held(lock)


def lock_file(folder: SweepFolder, name: str) -> Path:
    """Return the file that a tracker's process holds locked."""
    return folder.logs / f"{name}.lock"


def log_file(folder: SweepFolder, name: str) -> Path:
    """Return the file with the output of the tracker's process."""
    return folder.logs / f"{name}.log"


def rejected_file(folder: SweepFolder, name: str) -> Path:
    """Return the file of values that the tracker's tool rejected, one JSON object per line."""
    return folder.logs / f"{name}-rejected.jsonl"
