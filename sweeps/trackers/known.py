"""The trackers by the names that `--tracker` accepts.

Used by the sweep process and by each tracker's own. A new tracker is added here.
"""

from __future__ import annotations

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.naming import unknown
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.trackers.base import Tracker
from sweeps.trackers.mlflow.tracker import MlflowTracker
from sweeps.trackers.state import is_up_to_date, load_state
from sweeps.trackers.tensorboard import TensorBoardTracker

TRACKERS: dict[str, type[Tracker]] = {
    "mlflow": MlflowTracker,
    "tensorboard": TensorBoardTracker,
}


def check_trackers(config: SweepConfig) -> None:
    """Check that every tracker of a sweep can be used.

    Raises:
        UserError: A tracker is not known, or cannot be used.
    """
    for name in config.trackers:
        if name not in TRACKERS:
            raise UserError(unknown("tracker", name, list(TRACKERS)))
        TRACKERS[name].check(config)


def outdated(folder: SweepFolder, record: SweepRecord) -> list[str]:
    """Return the trackers whose tools lack part of a sweep that is not running."""
    return [
        name
        for name in record.config.trackers
        if not is_up_to_date(folder, name)
        or TRACKERS[name].has_lost(folder, record, load_state(folder, name))
    ]
