"""One sweep's runs in MLflow: found or created, and brought up to date.

Only this module and `model.py` log with MLflow's client, and only the tracker's process imports
them. It must not know events: it gets updates, which may be repeated without further effect.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from sweeps.errors import SweepError
from sweeps.trackers.base import SWEEP, DataUse, NewRun, Point, RunStatus, RunUpdate
from sweeps.trackers.mlflow.ids import Ids
from sweeps.trackers.mlflow.names import clean, color, ms, shorten
from sweeps.trackers.mlflow.refusals import STORE_ERRORS, is_refusal, store_of_files
from sweeps.trackers.rejected import Rejected

STATUS: dict[RunStatus, str] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Item:
    """One entry of a batch."""

    kind: Literal["metric", "param", "tag"]
    name: str
    values: Mapping[str, Any]
    """The values as the sweep has them."""
    entity: Any
    """The entity that MLflow takes."""


class Runs:
    """The runs of a sweep in one store.

    Args:
        ids: Filled with what is found and created; the caller saves it.
        tags: MLflow's own tags of every run that is created.
        rejected: Takes note of what MLflow rejects.
    """

    def __init__(self, ids: Ids, tags: Mapping[str, str], rejected: Rejected) -> None:
        mlflow.set_tracking_uri(ids.uri)  # parts of MLflow create their own clients
        self.client = MlflowClient(ids.uri)
        self.ids = ids
        self._tags = tags
        self._rejected = rejected
        self._gone: set[str] = set()
        """Runs that get no more updates: they were deleted in MLflow, or rejected by it."""

    def open_experiment(self, name: str, location: str | None, tags: dict[str, str]) -> str:
        """Return the id of the space's experiment; create it if it is missing."""
        if (found := self.client.get_experiment_by_name(name)) is None:
            try:
                experiment: str = self.client.create_experiment(name, location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                return self.open_experiment(name, location, tags)  # another sweep created it first
        else:
            experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment)
                logger.warning("restored experiment %s, which had been deleted in MLflow", name)
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
        """Bring one run up to date; repeating an update changes nothing."""
        key = update.key
        run = self._find_or_create(key, update.new)
        if run is None:
            return
        items = [
            *(_param(name, value) for name, value in update.params.items()),
            *(_tag(name, value) for name, value in update.tags.items()),
            *(_metric(point) for point in update.points),
        ]
        self._log(key, run, items)
        if update.data and key not in self._gone:
            with self.passing_over(key, "dataset", update.data[0].name):
                self.client.log_inputs(run, [_input(use) for use in update.data])
        if update.status is None or key in self._gone:
            return
        status = STATUS[update.status]
        with self.passing_over(key, "status", status):
            if update.ended is None:
                self.client.update_run(run, status=status)
            else:
                self.client.set_terminated(run, status=status, end_time=ms(update.ended))

    def tag(self, key: str, name: str, value: str) -> None:
        """Set a tag of a run."""
        if key in self.ids.runs and key not in self._gone:
            self._log(key, self.ids.runs[key], [_tag(name, value)])

    def upload_text(self, key: str, name: str, text: str) -> None:
        """Store a text as an artifact of a run."""
        if key in self.ids.runs and key not in self._gone:
            with self.passing_over(key, "file", name), store_of_files():
                self.client.log_text(self.ids.runs[key], text, name)

    @contextmanager
    def passing_over(self, key: str, kind: str, name: str) -> Iterator[None]:
        """Run the block; if MLflow rejects something in it, record that and continue.

        Args:
            key: The key of the run that is written.
            kind: What is written, such as a tag.
            name: The name of what is written.
        """
        try:
            yield
        except (*STORE_ERRORS, ImportError) as error:  # an artifact store may need a package
            if not is_refusal(error, self.ids.uri):
                raise
            self._rejected.put(key, kind, name, str(error))

    def _find_or_create(self, key: str, new: NewRun) -> str | None:
        """Return the id of a run, or None for one that gets no updates.

        Creating a run is not idempotent, so look for it first.
        """
        if key not in self.ids.runs and key not in self._gone:
            query = f"tags.`sweep.key` = '{new.tags['sweep.key']}'"
            found = self.client.search_runs([self.ids.experiment], query, max_results=1)
            run = found[0] if found else self._create(key, new)
            if run is None:
                self._gone.add(key)
            else:
                self.ids.runs[key] = run.info.run_id
        return None if key in self._gone else self.ids.runs[key]

    def _create(self, key: str, new: NewRun) -> Any:
        """Create a run; None if MLflow rejects it. The sweep's own run must not be rejected."""
        start, tags = ms(new.started), {**new.tags, **self._tags}
        if key == SWEEP:
            return self.client.create_run(self.ids.experiment, start, tags, new.name)
        tags |= {"mlflow.parentRunId": self.ids.runs[SWEEP], "mlflow.runColor": color(key)}
        with self.passing_over(key, "run", new.name):
            return self.client.create_run(self.ids.experiment, start, tags, new.name)
        return None

    def _log(self, key: str, run: str, items: Sequence[_Item]) -> None:
        """Log the items; halve a rejected batch until the rejected item is alone."""
        kinds: dict[str, list[Any]] = {"metric": [], "param": [], "tag": []}
        for item in items:
            kinds[item.kind].append(item.entity)
        try:
            self.client.log_batch(
                run,
                metrics=kinds["metric"],
                params=kinds["param"],
                tags=kinds["tag"],
                synchronous=True,
            )
        except MlflowException as error:
            if not is_refusal(error, self.ids.uri):
                raise
            if not self._exists(run):
                self._gone.add(key)
                logger.warning(
                    "the run of %s was deleted in MLflow and will not be updated again",
                    key or "the sweep",
                )
            elif len(items) > 1:
                half = len(items) // 2
                self._log(key, run, items[:half])
                if key not in self._gone:
                    self._log(key, run, items[half:])
            else:
                [item] = items
                self._rejected.put(key, item.kind, item.name, str(error), **item.values)

    def _exists(self, run: str) -> bool:
        """Tell whether the store has the run, and has not marked it as deleted.

        Raises:
            SweepError: The sweep's own run is missing too: the store was emptied or replaced.
        """
        try:
            return bool(self.client.get_run(run).info.lifecycle_stage != "deleted")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        if not self.has(SWEEP):
            raise SweepError(
                f"the sweep is no longer in {self.ids.uri}; it will be written there again"
            )
        return False


def _input(use: DataUse) -> DatasetInput:
    """Return a dataset as an input of an MLflow run; its digest covers what names its rows."""
    named = {"path": use.source, **use.settings}
    digest = hashlib.sha256(json.dumps([named, use.use]).encode()).hexdigest()[:8]
    dataset = Dataset(
        name=clean(use.name),
        digest=digest,
        source_type="hf" if use.on_hub else "local",
        source=json.dumps(named if use.on_hub else {"uri": use.source}),
        profile=json.dumps({name: value for name, value in use.settings.items() if value}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", use.use)])


def _param(name: str, value: Any) -> _Item:
    return _Item("param", name, {"value": value}, Param(clean(name), shorten(value)))


def _tag(name: str, value: str) -> _Item:
    return _Item("tag", name, {"value": value}, RunTag(name, value))


def _metric(point: Point) -> _Item:
    values = {"value": point.value, "time": point.time, "step": point.step}
    entity = Metric(clean(point.name), point.value, ms(point.time), point.step)
    return _Item("metric", point.name, values, entity)
