"""The ids of a sweep's runs, view and model in MLflow: the tracker's own part of its state.

Written by the tracker's process, read by it after a restart and by whoever needs a link. It must
not know MLflow: it holds only names.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
