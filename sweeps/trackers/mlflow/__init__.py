"""MLflow's record of a sweep: the tracker, its store, its server, the links into it.

Any process may import it; MLflow itself is imported by the tracker's process, and by `delete`.
"""

from sweeps.trackers.mlflow.registered import registered_models
from sweeps.trackers.mlflow.server import serve
from sweeps.trackers.mlflow.store import check_tracking
from sweeps.trackers.mlflow.view import sweep_link

__all__ = ["check_tracking", "registered_models", "serve", "sweep_link"]
