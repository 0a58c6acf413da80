"""What `sweep.json` says beyond the space and the config: which recorded trials a sweep repeats.

Used by the sweep process and by every reader. It must not know how a sweep is repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeps.records.events import TrialSuggested


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """The recorded trials that a sweep repeats."""

    sweep: str
    """The id of the sweep that they are of."""
    trials: Sequence[TrialSuggested]
    """As they were suggested there; the first is t001 here."""

    def in_json(self) -> dict[str, Any]:
        """Return what `sweep.json` keeps as `rerun_of`."""
        return {
            "sweep": self.sweep,
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }


def rerun_of(record: Mapping[str, Any]) -> Rerun | None:
    """Return what a sweep repeats by its `sweep.json`, or None."""
    kept = record.get("rerun_of")
    if kept is None:
        return None
    return Rerun(sweep=kept["sweep"], trials=[TrialSuggested(**trial) for trial in kept["trials"]])
