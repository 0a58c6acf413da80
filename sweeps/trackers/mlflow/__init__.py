"""MLflow's record of a sweep: its writer process, its store, its server, the links into it.

Any process may import it; MLflow itself is imported by the writer process alone. It must not know
how trials run: it reads the event log and `sweep.json`, nothing else.
"""

from sweeps.trackers.mlflow.launch import Writer, finish_writer, start_writer
from sweeps.trackers.mlflow.server import serve
from sweeps.trackers.mlflow.store import check_tracking
from sweeps.trackers.mlflow.view import sweep_link

__all__ = [
    "Writer",
    "check_tracking",
    "finish_writer",
    "serve",
    "start_writer",
    "sweep_link",
]
