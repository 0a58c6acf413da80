"""The tracker for MLflow: one run for the sweep, and one nested run for each trial.

Runs in the tracker's process, which alone imports MLflow; the sweep process checks the store. It
must not know events: it gets updates and the answer.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sweeps.answer.answer import Answer
from sweeps.config import SweepConfig
from sweeps.environment import environment
from sweeps.errors import SweepError, UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.trackers.base import SWEEP, RunUpdate, Tracker
from sweeps.trackers.mlflow.ids import Ids, remembered
from sweeps.trackers.mlflow.names import clean
from sweeps.trackers.mlflow.sqlite_store import follow_move, make_store
from sweeps.trackers.mlflow.store import check_tracking, is_server, places_of, sqlite_file
from sweeps.trackers.mlflow.view import saved_view, view_key
from sweeps.trackers.note import note
from sweeps.trackers.rejected import Rejected
from sweeps.trackers.state import TrackerState

if TYPE_CHECKING:
    from sweeps.trackers.mlflow.runs import Runs

NAME = "mlflow"
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
UPLOAD_TIMEOUT_S = 600
"""A server may take this long to pass an uploaded file on to its own storage."""

logger = logging.getLogger(__name__)


class MlflowTracker(Tracker):
    """See `Tracker`."""

    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # MLflow's own retries can duplicate a run if the answer got lost; ours look for it first.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    }
    unused = ("pandas", "pyarrow", "scipy")
    """They would take 75 MB and 1 s."""

    def __init__(self, folder: SweepFolder, record: SweepRecord, state: TrackerState) -> None:
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it raises, too
        self._folder, self._record, self._state = folder, record, state
        uri, self._artifacts = places_of(folder, record)
        self._uri = uri
        self._rejected = Rejected(folder, NAME)
        ids = remembered(folder, record, state)
        with _store_errors(uri):
            make_store(uri)
            follow_move(uri, folder.path.parent)
            self._runs = self._connect(ids if ids and ids.uri == uri else Ids(uri))
            if SWEEP in self._runs.ids.runs and not self._runs.has(SWEEP):
                logger.warning(
                    "the sweep is no longer in %s; writing it again from the event log", uri
                )
                self._runs = self._connect(Ids(uri))
            if SWEEP not in self._runs.ids.runs:
                state.offset = 0
            self._open_experiment()

    @classmethod
    def check(cls, config: SweepConfig) -> None:
        """Check the store; see `Tracker.check`."""
        check_tracking(config.mlflow_store)

    @classmethod
    def has_lost(cls, folder: SweepFolder, record: SweepRecord, state: TrackerState) -> bool:
        """Tell whether the SQLite file is gone; only MLflow itself knows what is in a store."""
        file = sqlite_file(places_of(folder, record)[0])
        return file is not None and not file.exists()

    def write(self, updates: Sequence[RunUpdate]) -> None:
        """Bring the runs up to date; files that cannot be uploaded now are uploaded later."""
        with _store_errors(self._uri):
            for update in updates:
                self._runs.write(update)
                if update.key == SWEEP and self._ids.view is None:
                    self._save_view(update.new.started)
                if update.files:
                    self._ids.waiting.setdefault(update.key, {}).update(update.files)
                    self._upload_files(update.key)
        self._remember()

    def close(self, answer: Answer) -> None:
        """Write the note, all files, and the best checkpoint as a model."""
        with _store_errors(self._uri), patience():
            text = note(answer, self._record.space.domains)
            self._runs.tag(SWEEP, NOTE, text)
            self._runs.upload_text(SWEEP, "sweep.json", self._folder.record_file.read_text())
            for key in list(self._ids.waiting):
                self._upload_files(key, last=True)
            if answer.status in ("finished", "failed"):
                self._log_model(answer, text)
        self._remember()

    @property
    def _ids(self) -> Ids:
        return self._runs.ids

    def _remember(self) -> None:
        self._state.own = dataclasses.asdict(self._ids)

    def _connect(self, ids: Ids) -> Runs:
        from sweeps.trackers.mlflow.runs import Runs

        return Runs(ids, _own_tags(self._record), self._rejected)

    def _open_experiment(self) -> None:
        record, uri = self._record, self._ids.uri
        space = record.space
        location = (self._artifacts / space.name).as_uri()
        self._runs.open_experiment(
            space.name,
            None if is_server(uri) else location,
            {
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.experiment.primaryMetric.name": clean(space.metric),
                "mlflow.experiment.primaryMetric.greaterIsBetter": str(space.mode == "max"),
            },
        )

    def _save_view(self, started: float) -> None:
        self._ids.view = ""
        with self._runs.passing_over(SWEEP, "view", self._record.sweep):
            tag = saved_view(self._record, self._ids.runs[SWEEP], started)
            self._runs.tag_experiment(*tag)
            self._ids.view = view_key(self._record.sweep)

    def _upload_files(self, key: str, last: bool = False) -> None:
        """Upload a run's files; a failing artifact store must not hold up the metrics."""
        from sweeps.trackers.mlflow.refusals import STORE_ERRORS

        waiting = self._ids.waiting[key]
        for name in list(waiting):
            try:
                self._runs.upload_text(key, name, waiting[name])
                del waiting[name]
            except STORE_ERRORS as error:
                if last:
                    raise
                logger.warning(
                    "could not upload %s of %s; retrying at the end of the sweep: %s",
                    name,
                    key or "the sweep",
                    error,
                )
        if not waiting:
            del self._ids.waiting[key]

    def _log_model(self, answer: Answer, text: str) -> None:
        """Log the best checkpoint; if it is a confirmation's, the note says whose metrics it has.

        Args:
            answer: The sweep's answer.
            text: The note so far.
        """
        from sweeps.trackers.mlflow.model import find_best, log_best

        best = find_best(self._folder, answer)
        if best is None:
            logger.warning(
                "no model is logged, because this machine has no complete checkpoint of the best"
                " trial"
            )
            return
        key = best.trial if best.trial in self._ids.runs else SWEEP
        with self._runs.passing_over(key, "model", best.checkpoint.name):
            self._ids.model = log_best(self._runs.client, self._ids, self._record, best)
            if answer.confirmation is not None and best.trial == answer.confirmation.best_run:
                metric = clean(answer.metric)
                whose = (
                    f"This run's `{metric}` and its model are those of {best.trial}, the"
                    f" confirmation's best run; `best_{metric}` is the best value of the search."
                )
                self._runs.tag(SWEEP, NOTE, f"{text}\n\n{whose}")


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    """Turn a store's errors into a `SweepError` if it is unavailable, else a `UserError`."""
    from sweeps.trackers.mlflow.refusals import STORE_ERRORS, is_absent

    try:
        yield
    except STORE_ERRORS as error:
        kind = SweepError if is_absent(error, uri) else UserError
        raise kind(" ".join(f"{uri}: {error}".split())) from error


@contextmanager
def patience() -> Iterator[None]:
    """Allow more time for requests in the block, because they upload files."""
    with environment({"MLFLOW_HTTP_REQUEST_TIMEOUT": str(UPLOAD_TIMEOUT_S)}):
        yield


def _own_tags(record: SweepRecord) -> dict[str, str]:
    """Return MLflow's own tags of every run: who, what, which commit."""
    git = record.git
    tags = {
        "mlflow.user": record.user,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": record.command,
        "mlflow.source.git.commit": git.commit if git else None,
        "mlflow.source.git.branch": git.branch if git else None,
        "mlflow.source.git.repoURL": git.url if git else None,
        "sweep.git.dirty": str(git.dirty).lower() if git else None,
    }
    return {name: value for name, value in tags.items() if value}
