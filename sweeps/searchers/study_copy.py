"""`study.journal` in a sweep's folder: a copy of its trials for optuna-dashboard.

The sweep process writes it from the events, and writes it anew at each start. It must not be read
back: the event log is the truth, whichever searcher proposes.
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
from sweeps.searchers.optuna_space import OptunaSpace, direction
from sweeps.space.search_space import SearchSpace

logger = logging.getLogger("sweeps")


class StudyCopy:
    """Adds each params set to the study when its last trial ends.

    Args:
        path: The journal; an old one is replaced.
        name: Of the study: the sweep's id.
        space: The search space.
        history: What the log adds up to; it has an event before `take` gets it.
    """

    def __init__(self, path: Path, name: str, space: SearchSpace, history: History) -> None:
        for file in (path, path.with_name(f"{path.name}.lock")):
            file.unlink(missing_ok=True)
        self._space = OptunaSpace(space)
        self._history = history
        self._torn = False
        self._study = optuna.create_study(
            study_name=name,
            storage=JournalStorage(JournalFileBackend(str(path))),
            direction=direction(history.mode),
        )
        for params_set in history.sets():
            if params_set.ended:
                self._add(params_set)

    def take(self, event: Event) -> None:
        """Add the params set that an event ends, until one cannot be written."""
        if not isinstance(event, TrialEnded) or self._torn:
            return
        params_set = self._history.set_of(self._history.trials[event.trial])
        if params_set.ended:
            try:
                self._add(params_set)
            except Exception as error:  # a full disk; or somebody changed it, and Optuna reads it
                self._torn = True  # nothing behind a torn line can be read
                logger.warning("study.journal ends before %s: %r", event.trial, error)

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
