"""The ids of a sweep's runs, view and model in MLflow: the tracker's own part of its state.

Written by the tracker's process, read by it after a restart and by whoever needs a link. It must
not know MLflow: it holds only names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord, read_record
from sweeps.trackers.base import SWEEP
from sweeps.trackers.mlflow.store import places_of
from sweeps.trackers.state import TrackerState, load_state, log_file


@dataclass
class Ids:
    """What the tracker remembers; if it is lost, everything is found again in MLflow."""

    uri: str
    """URI of the MLflow store that has these ids."""
    experiment: str | None = None
    view: str | None = None
    """Key of the saved view, once it is written; empty if MLflow rejects it."""
    runs: dict[str, str] = field(default_factory=dict)
    """MLflow run ids by the key of an update."""
    waiting: dict[str, dict[str, str]] = field(default_factory=dict)
    """Files not uploaded yet: texts by file name, by the key of the run."""
    model: str | None = None
    """Id of the logged model of the newest winner."""


def remembered(folder: SweepFolder, record: SweepRecord, state: TrackerState) -> Ids | None:
    """Return the ids that the tracker has saved; None: none yet."""
    if not state.own:
        return None
    ids = Ids(**state.own)
    here, _ = places_of(folder, record)
    same_file = Path(ids.uri).name == Path(here).name
    if record.config.tracking_uri is None and same_file:  # the storage folder may have been moved
        ids.uri = here
    return ids


def sweep_in_mlflow(folder: SweepFolder) -> Ids:
    """Return the sweep's ids in MLflow.

    Raises:
        UserError: The sweep is not in MLflow.
    """
    record = read_record(folder)
    if "mlflow" not in record.config.trackers:
        raise UserError(
            f"{folder.id} is not in MLflow; to write it there, run:"
            f" {folder.command('resume', '--tracker', 'mlflow')}"
        )
    ids = remembered(folder, record, load_state(folder, "mlflow"))
    if ids is None or SWEEP not in ids.runs:
        raise UserError(
            f"{folder.id} is not in MLflow yet: the tracker takes a few seconds to start; "
            f"if this persists, check {log_file(folder, 'mlflow')}"
        )
    return ids
