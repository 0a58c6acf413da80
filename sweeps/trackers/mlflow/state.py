"""`mlflow.json` in a sweep's folder: how far the writer is, and what things are called in MLflow.

Written by the writer process, read by it after a restart and by whoever needs a link. It must not
know MLflow: here are only names and numbers.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field

from sweeps.records.folder import SweepFolder

STATE_FILE = "mlflow.json"
PARENT = ""
"""The key of the sweep's own run among `runs`; the others are trial ids."""


@dataclass
class WriterState:
    """What the writer knows; without it, everything is found again in MLflow and in the log."""

    uri: str
    """The store that the rest is about."""
    offset: int = 0
    """Bytes of the event log that the store has taken."""
    experiment: str | None = None
    view: str | None = None
    """Key of the saved view, once it is written."""
    runs: dict[str, str] = field(default_factory=dict)
    """MLflow run ids by trial id."""
    files: list[str] = field(default_factory=list)
    """Files uploaded, as `trial id/file name`."""
    model: str | None = None
    """Id of the logged model of the newest winner."""

    def save(self, folder: SweepFolder) -> None:
        """Write the file so that a kill leaves the old or the new one."""
        path = folder.path / STATE_FILE
        aside = path.with_suffix(".json.new")
        aside.write_text(json.dumps(dataclasses.asdict(self), indent=1))
        os.replace(aside, path)


def load_state(folder: SweepFolder) -> WriterState | None:
    """Return what the newest writer has saved, or None."""
    path = folder.path / STATE_FILE
    if not path.exists():
        return None
    try:
        return WriterState(**json.loads(path.read_text()))
    except json.JSONDecodeError:  # cut off by a power failure; nothing is lost with it
        return None
