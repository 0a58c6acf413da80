"""`study.journal` in a sweep's folder: a copy of its trials for optuna-dashboard.

The sweep process writes it from the events, and rewrites it at each start. It must not be read
back: the event log is the source of truth, whichever searcher is used.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeps.records.events import Event, TrialEnded
from sweeps.records.history import History
from sweeps.records.params_set import ParamsSet
from sweeps.searchers.optuna_space import OptunaSpace, direction
from sweeps.space.search_space import SearchSpace

logger = logging.getLogger("sweeps")


class _Journal(JournalFileBackend):
    """A journal whose first part is written at once: a flush per trial would take minutes.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._held: list[dict[str, Any]] | None = []

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the entries from this one on."""
        if self._held is None:
            yield from super().read_logs(log_number_from)
        else:
            yield from self._held[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write the entries, or hold them until `write_held`."""
        if self._held is None:
            super().append_logs(logs)
        else:
            self._held += logs

    def write_held(self) -> None:
        """Write the held entries, and from now on each entry as it arrives."""
        held, self._held = self._held or [], None
        super().append_logs(held)


class StudyCopy:
    """Adds each params set to the study when its last trial ends.

    Args:
        path: The journal; an old one is replaced.
        name: The name of the study, which is the sweep's id.
        space: The search space.
        history: The history of the log; it includes an event before `take` receives it.
    """

    def __init__(self, path: Path, name: str, space: SearchSpace, history: History) -> None:
        for file in (path, path.with_name(f"{path.name}.lock")):
            file.unlink(missing_ok=True)
        self._space = OptunaSpace(space)
        self._history = history
        self._torn = False
        journal = _Journal(str(path))
        self._study = optuna.create_study(
            study_name=name, storage=JournalStorage(journal), direction=direction(history.mode)
        )
        for params_set in history.sets():
            if params_set.ended:
                self._add(params_set)
        journal.write_held()

    def take(self, event: Event) -> None:
        """Add the params set that an event ends, unless an earlier one could not be written."""
        if not isinstance(event, TrialEnded) or self._torn:
            return
        params_set = self._history.set_of(self._history.trials[event.trial])
        if params_set.ended:
            try:
                self._add(params_set)
            except Exception as error:  # a full disk, or someone changed the file that Optuna reads
                self._torn = True  # nothing after a torn line can be read
                logger.warning(
                    "study.journal, the copy of the sweep for optuna-dashboard, lacks %s and all"
                    " later trials (%r); the sweep itself is not affected",
                    event.trial,
                    error,
                )

    def _add(self, params_set: ParamsSet) -> None:
        observed = self._space.observed(params_set)
        trial = params_set.trials[0]
        observed.set_user_attr("trial_id", trial.id)
        observed.set_user_attr("status", trial.failure or trial.status)
        for report in trial.reports:
            value = report.metrics.get(self._history.metric)
            if value is not None:
                observed.intermediate_values[report.step] = value
        self._study.add_trial(observed)
