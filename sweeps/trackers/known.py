"""The trackers by the names that `--tracker` takes.

Used by the sweep process and by each tracker's own. A new tracker is added here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.errors import UserError
from sweeps.naming import unknown
from sweeps.trackers.base import Tracker
from sweeps.trackers.mlflow.tracker import MlflowTracker
from sweeps.trackers.tensorboard import TensorBoardTracker

if TYPE_CHECKING:
    from sweeps.planning.request import Request

TRACKERS: dict[str, type[Tracker]] = {
    "mlflow": MlflowTracker,
    "tensorboard": TensorBoardTracker,
}


def check_trackers(request: Request) -> None:
    """Check that every tracker of a sweep can be used.

    Raises:
        UserError: One is not known, or cannot be used.
    """
    for name in request.config.trackers:
        if name not in TRACKERS:
            raise UserError(unknown("tracker", name, list(TRACKERS)), f"--tracker {name}")
        TRACKERS[name].check(request)
