"""One sweep's runs in MLflow: found or created, and brought up to date.

Only this and `model.py` log with MLflow's client, and only the tracker's process imports them. It
must not know events: it gets updates that may come twice and must count once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from sweeps.trackers.base import SWEEP, NewRun, Point, RunStatus, RunUpdate
from sweeps.trackers.mlflow.ids import Ids
from sweeps.trackers.mlflow.names import clean, color, ms, shorten

RETRIED = (MlflowException, SQLAlchemyError, OSError)
"""What a store in trouble raises; HTTP errors of `requests` are OSErrors."""
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}
"""Retrying will not help: MLflow refuses the value, or the run was deleted."""
STATUS: dict[RunStatus, str] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}

Item = tuple[Literal["metric", "param", "tag"], Any]
logger = logging.getLogger(__name__)


class Runs:
    """The runs of a sweep in one store.

    Args:
        ids: Filled with what is found and created; the caller saves it.
        tags: MLflow's own tags of every run that is created.
        rejected: File for the values that MLflow refuses, one a line.
    """

    def __init__(self, ids: Ids, tags: Mapping[str, str], rejected: Path) -> None:
        mlflow.set_tracking_uri(ids.uri)  # parts of MLflow make clients of their own
        self.client = MlflowClient(ids.uri)
        self.ids = ids
        self._tags = tags
        self._rejected = rejected
        self._deleted: set[str] = set()

    def open_experiment(self, name: str, location: str | None, tags: dict[str, str]) -> str:
        """Return the id of the space's experiment, made if it is missing."""
        if (found := self.client.get_experiment_by_name(name)) is None:
            try:
                experiment: str = self.client.create_experiment(name, location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self.open_experiment(name, location, tags)  # another sweep was quicker
        else:
            experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment)
                logger.warning("experiment %s had been deleted in MLflow; restored", name)
        self.ids.experiment = experiment
        for key, value in tags.items():
            self.tag_experiment(key, value)
        return experiment

    def tag_experiment(self, key: str, value: str) -> None:
        """Set a tag of the opened experiment."""
        self.client.set_experiment_tag(self.ids.experiment, key, value)

    def has(self, key: str) -> bool:
        """Tell whether the store still has the run."""
        try:
            self.client.get_run(self.ids.runs[key])
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def write(self, update: RunUpdate) -> None:
        """Bring one run up to date; the same update again changes nothing."""
        key = update.key
        if key in self._deleted:
            return
        run = self._find_or_create(key, update.new)
        params = {clean(name): shorten(value) for name, value in update.params.items()}
        items: list[Item] = [
            *(("param", Param(name, value)) for name, value in params.items()),
            *(("tag", RunTag(name, value)) for name, value in update.tags.items()),
            *(("metric", point) for point in update.points),
        ]
        self._log(key, run, items)
        if update.status is None or key in self._deleted:
            return
        status = STATUS[update.status]
        if update.ended is None:
            self.client.update_run(run, status=status)
        else:
            self.client.set_terminated(run, status=status, end_time=ms(update.ended))

    def tag(self, key: str, name: str, value: str) -> None:
        """Set a tag of a run."""
        if key not in self._deleted:
            self._log(key, self.ids.runs[key], [("tag", RunTag(name, value))])

    def upload_text(self, key: str, name: str, text: str) -> None:
        """Store a text as an artifact of a run."""
        if key not in self._deleted:
            self.client.log_text(self.ids.runs[key], text, name)

    def _find_or_create(self, key: str, new: NewRun) -> str:
        """Return the id of a run; creating is not idempotent, so look first."""
        if key not in self.ids.runs:
            query = f"tags.`sweep.key` = '{new.tags['sweep.key']}'"
            found = self.client.search_runs([self.ids.experiment], query, max_results=1)
            tags = {**new.tags, **self._tags}
            if key != SWEEP:
                tags["mlflow.parentRunId"] = self.ids.runs[SWEEP]
                tags["mlflow.runColor"] = color(key)
            run = found[0] if found else self._create(new, tags)
            self.ids.runs[key] = run.info.run_id
        return self.ids.runs[key]

    def _create(self, new: NewRun, tags: dict[str, str]) -> Any:
        return self.client.create_run(
            self.ids.experiment, start_time=ms(new.started), run_name=new.name, tags=tags
        )

    def _log(self, key: str, run: str, items: list[Item]) -> None:
        """Log the items; halve a refused batch until the refused item is alone."""
        kinds: dict[str, list[Any]] = {"metric": [], "param": [], "tag": []}
        for kind, item in items:
            kinds[kind].append(_metric(item) if isinstance(item, Point) else item)
        try:
            self.client.log_batch(
                run,
                metrics=kinds["metric"],
                params=kinds["param"],
                tags=kinds["tag"],
                synchronous=True,
            )
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            if self.client.get_run(run).info.lifecycle_stage == "deleted":
                self._deleted.add(key)
                logger.warning("run %s was deleted in MLflow; it gets no more updates", key)
            elif len(items) > 1:
                half = len(items) // 2
                self._log(key, run, items[:half])
                if key not in self._deleted:
                    self._log(key, run, items[half:])
            else:
                self._reject(key, items[0], str(error))

    def _reject(self, key: str, item: Item, why: str) -> None:
        kind, value = item
        line = {"trial": key, "kind": kind, **vars(value), "why": why}
        with self._rejected.open("a") as rejected:
            rejected.write(json.dumps(line) + "\n")
        name = getattr(value, "name", None) or value.key
        logger.warning("MLflow refuses %s %r of %s: %s", kind, name, key or "the sweep", why)


def _metric(point: Point) -> Metric:
    return Metric(clean(point.name), point.value, ms(point.time), point.step)
