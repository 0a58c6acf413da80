"""MLflow's record of a sweep: the tracker, its store, its server, and links to its pages.

Any process may import it; MLflow itself is imported by the tracker's process, by `delete`, and by
`export --register`.
"""

from sweeps.trackers.mlflow.ids import sweep_in_mlflow
from sweeps.trackers.mlflow.registry import ALIAS, register, registered_models
from sweeps.trackers.mlflow.server import serve
from sweeps.trackers.mlflow.store import is_server, places_of
from sweeps.trackers.mlflow.view import model_links, sweep_link

__all__ = [
    "ALIAS",
    "is_server",
    "model_links",
    "places_of",
    "register",
    "registered_models",
    "serve",
    "sweep_in_mlflow",
    "sweep_link",
]
