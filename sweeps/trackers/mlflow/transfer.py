"""One sweep on its way from the event log into MLflow.

Imported by the writer process alone, after its settings. It must not decide when to try again or
when to end: that is `writer.py`.
"""

from __future__ import annotations

import logging
import os
from itertools import islice
from pathlib import Path

from sweeps.answer.answer import find_answer
from sweeps.records.event_log import read_events
from sweeps.records.folder import SweepFolder
from sweeps.records.history import sweep_status
from sweeps.records.sweep_record import read_record
from sweeps.trackers.mlflow.launch import REJECTED_FILE
from sweeps.trackers.mlflow.model import Best, log_best
from sweeps.trackers.mlflow.note import note
from sweeps.trackers.mlflow.runs import RETRIED, Runs
from sweeps.trackers.mlflow.state import PARENT, WriterState, load_state
from sweeps.trackers.mlflow.store import is_server, make_store
from sweeps.trackers.mlflow.translate import Translator
from sweeps.trackers.mlflow.values import RunUpdate, clean
from sweeps.trackers.mlflow.view import saved_view, view_key

BATCH = 500
"""Events written to MLflow at once."""
UPLOAD_TIMEOUT_S = 600
"""A server may take this long to pass an uploaded file on to its own storage."""

logger = logging.getLogger(__name__)


class Transfer:
    """Carries one sweep's log into MLflow."""

    def __init__(self, folder: SweepFolder) -> None:
        self.folder = folder
        self.record = read_record(folder)
        self.translator = Translator(self.record)
        self.history = self.translator.history
        self.state = load_state(folder) or WriterState(self.uri)
        if self.state.uri != self.uri:
            self.state = WriterState(self.uri)
        self._runs: Runs | None = None
        self._read_to = 0
        self._written_to = 0
        self._pending: dict[str, RunUpdate] = {}
        self._tried: set[tuple[str, str]] = set()

    @property
    def uri(self) -> str:
        """The store's."""
        return self.record.tracking_uri

    def connect(self) -> Runs:
        """Return the store's runs, with the experiment opened."""
        if self._runs is None:
            make_store(self.uri)
            runs = Runs(self.state, self.folder.logs / REJECTED_FILE)
            if PARENT in self.state.runs and not runs.has(PARENT):
                logger.warning("%s has lost the sweep; writing it again from its log", self.uri)
                self.state = runs.state = WriterState(self.uri)
            location = f"{Path(self.record.artifacts).as_uri()}/{self.record.space.name}"
            metric = self.record.space.metric
            runs.open_experiment(
                self.record.space.name,
                None if is_server(self.uri) else location,
                {
                    "mlflow.experimentKind": "custom_model_development",
                    "mlflow.experiment.primaryMetric.name": metric,
                    "mlflow.experiment.primaryMetric.greaterIsBetter": str(
                        self.record.space.mode == "max"
                    ),
                },
            )
            self._runs = runs
        return self._runs

    def advance(self) -> bool:
        """Write the next events; returns whether there were any."""
        runs = self.connect()
        if self._read_to == self._written_to:
            self._read()
        if self._read_to == self._written_to:
            return False
        self._write(runs)
        self._written_to = self._read_to
        if self._written_to > self.state.offset:
            self.state.offset = self._written_to
            self.state.save(self.folder)
        self._upload_tracebacks(runs, again=False)
        return True

    def close(self) -> None:
        """Write what stands at the end: statuses, the answer, files, the best model."""
        runs = self.connect()
        if self.history.started is None:
            return
        if self.history.ended is None:
            self.translator.interrupt()
        self._pending = self.translator.take()
        parent = self._pending.setdefault(PARENT, RunUpdate())
        answer = find_answer(self.history, sweep_status(self.history, held=False))
        parent.tags["mlflow.note.content"] = note(answer, self.record.space.domains)
        self._write(runs)
        self.state.save(self.folder)
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(UPLOAD_TIMEOUT_S)
        runs.upload_text(PARENT, "sweep.json", self.folder.record_file.read_text())
        self._upload_tracebacks(runs, again=True)
        if self.history.ended is not None:
            self._log_best(runs)
        self.state.save(self.folder)

    def _read(self) -> None:
        """Take in the next events; those that the store has taken only count for the history."""
        for event, end in islice(read_events(self.folder.events_file, self._read_to), BATCH):
            self.translator.apply(event)
            self._read_to = end
            if end <= self.state.offset:
                self.translator.take()
        self._pending = self.translator.take()

    def _write(self, runs: Runs) -> None:
        for key in sorted(self._pending):  # the sweep's own run comes first
            runs.write(key, self.translator.new_run(key), self._pending[key])
            if key == PARENT and self.state.view is None:
                self._save_view(runs)
        self._pending = {}

    def _save_view(self, runs: Runs) -> None:
        assert self.history.started is not None
        params = [clean(name) for name in self.record.space.tuned]
        tag = saved_view(self.record, self.state.runs[PARENT], params, self.history.started)
        runs.tag_experiment(*tag)
        self.state.view = view_key(self.record.sweep)
        self.state.save(self.folder)

    def _upload_tracebacks(self, runs: Runs, again: bool) -> None:
        """Upload new tracebacks; a store of files that fails must not hold up the metrics."""
        for (trial, name), text in self.translator.tracebacks().items():
            if (trial, name) in self._tried and not again:
                continue
            self._tried.add((trial, name))
            try:
                runs.upload_text(trial, name, text)
            except RETRIED as error:
                if again:
                    raise
                logger.warning("%s of %s waits for the end: %s", name, trial, error)

    def _log_best(self, runs: Runs) -> None:
        winner = self.history.winner()
        saved = winner.checkpoints.get("best") if winner else None
        if winner is None or saved is None or not (self.folder.path / saved.path).is_dir():
            logger.warning("the best trial has no whole checkpoint to log as a model")
            return
        best = Best(
            trial=winner.id,
            params=winner.params,
            report=next(report for report in winner.reports if report.number == saved.number),
            time=self.translator.reported[winner.id, saved.number],
            checkpoint=self.folder.path / saved.path,
        )
        log_best(runs.client, self.state, self.record, best)
