"""`study.journal` in a sweep's folder: a copy of its trials for optuna-dashboard.

Written by the sweep process from the events, and written anew at each start. Nobody reads it back:
the event log is the truth, and the searcher's own study is rebuilt from it.
"""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from sweeps.records.events import Event, TrialEnded
from sweeps.records.history import History
from sweeps.records.params_set import ParamsSet
from sweeps.searchers.optuna_searcher import Proposals

logger = logging.getLogger("sweeps")


class StudyCopy:
    """Takes down each params set when its last trial ends.

    Args:
        path: The journal; one that is there is replaced.
        name: Of the study: the sweep's id.
        proposals: Knows what Optuna is told of a params set.
        history: What the log adds up to so far; it knows of an event before `take` does.
    """

    def __init__(self, path: Path, name: str, proposals: Proposals, history: History) -> None:
        for file in (path, path.with_name(f"{path.name}.lock")):
            file.unlink(missing_ok=True)
        self._proposals = proposals
        self._history = history
        self._torn = False
        self._study = optuna.create_study(
            study_name=name,
            storage=JournalStorage(JournalFileBackend(str(path))),
            direction="maximize" if history.mode == "max" else "minimize",
        )
        for params_set in history.sets():
            if params_set.ended:
                self._add(params_set)

    def take(self, event: Event) -> None:
        """Take down the params set that an event ends, until one cannot be written."""
        if not isinstance(event, TrialEnded) or self._torn:
            return
        params_set = self._history.set_of(self._history.trials[event.trial])
        if params_set.ended:
            try:
                self._add(params_set)
            except OSError as error:
                self._torn = True  # what is added behind a torn line cannot be read
                logger.warning("study.journal ends before %s: %s", event.trial, error)

    def _add(self, params_set: ParamsSet) -> None:
        told = self._proposals.told(params_set)
        trial = params_set.trials[0]
        told.set_user_attr("trial_id", trial.id)
        told.set_user_attr("status", trial.failure or trial.status)
        for report in trial.reports:
            value = report.metrics.get(self._history.metric)
            if value is not None:
                told.intermediate_values[report.step] = value
        self._study.add_trial(told)
