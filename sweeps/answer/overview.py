"""All sweeps in a storage, one entry each.

Runs in the verb `list --sweeps`; reads only the sweeps' folders. It must not know how they are
shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sweeps.answer.answer import finite
from sweeps.answer.results import read_results
from sweeps.errors import SweepError
from sweeps.records.folder import SweepFolder
from sweeps.records.history import SweepStatus
from sweeps.records.object_storage import all_sweeps, refresh
from sweeps.records.removal import size_of


@dataclass(frozen=True, kw_only=True)
class SweepEntry:
    """A sweep at a given moment."""

    sweep: str
    """The sweep id."""
    status: SweepStatus | None = None
    """None: the sweep cannot be read."""
    problem: str | None = None
    """Why it cannot be read."""
    metric: str | None = None
    best: float | None = None
    """The winner's value or, with `--repeats`, the mean of its params; None before the first."""
    seeds: int | None = None
    """Trials in that mean; None without `--repeats`."""
    winner: str | None = None
    """The best trial."""
    ended: int = 0
    """Trials that have ended."""
    trials: int = 0
    """Number of trials that the sweep will have."""
    device_s: float = 0.0
    """Device-seconds of all attempts and smoke runs, excluding a confirmation."""
    bytes: int
    """On disk and on object storage."""

    def in_json(self) -> dict[str, Any]:
        """Return the fields as values for strict JSON."""
        fields: dict[str, Any] = finite(self)
        return fields


def list_sweeps(storage: str) -> list[SweepEntry]:
    """Return the sweeps in a folder or on object storage, the latest first.

    Raises:
        UserError: The storage cannot be read.
    """
    return [_entry(folder) for folder in reversed(all_sweeps(storage))]


def _entry(folder: SweepFolder) -> SweepEntry:
    try:
        refresh(folder)
        found = read_results(folder)
    except (SweepError, OSError, ValueError, TypeError, KeyError) as error:
        what = str(error) if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
        return SweepEntry(sweep=folder.id, problem=what, bytes=size_of(folder).total)
    history = found.history
    winner = history.winner()
    own = history.set_of(winner) if winner is not None else None
    now = time.time() if found.status == "running" else history.newest
    return SweepEntry(
        sweep=folder.id,
        status=found.status,
        metric=history.metric,
        best=own.mean if own is not None else None,
        seeds=len(own.values) if own is not None and own.repeats > 1 else None,
        winner=None if winner is None else winner.id,
        ended=sum(trial.ended for trial in history.trials.values()),
        trials=found.record.config.num_trials,
        device_s=history.device_s_by(now) if now is not None else 0.0,
        bytes=size_of(folder).total,
    )
