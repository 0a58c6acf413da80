"""Which trial comes next, in a search or a confirmation.

Runs in the sweep process. It must not know how many trials are allowed, nor write to the log.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Protocol

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.records.events import ConfirmationStarted, Origin, TrialSuggested
from sweeps.records.history import History
from sweeps.searchers.base import Searcher
from sweeps.space.arguments import trial_seed
from sweeps.space.search_space import SearchSpace


class Suggests(Protocol):
    """Chooses the next trial, deterministically for a given history."""

    def suggest(self) -> TrialSuggested | None:
        """Return the next trial; None if there are no more."""


class Suggestions:
    """Suggests a search's trials: recorded ones, the newest params again, or new params.

    Args:
        space: The search space.
        config: Gives the seed, and the repeats of each params set.
        history: The history of the log.
        searcher: Proposes the params of new trials.
        where: The space's location, for messages.
        given: The first trials, if recorded ones are repeated.
    """

    def __init__(
        self,
        space: SearchSpace,
        config: SweepConfig,
        history: History,
        searcher: Searcher,
        where: str,
        given: Sequence[TrialSuggested],
    ) -> None:
        self._space = space
        self._config = config
        self._history = history
        self._searcher = searcher
        self._where = where
        self._given = given

    def suggest(self) -> TrialSuggested | None:
        """Return the next trial; None if the space is exhausted.

        Raises:
            UserError: A constraint or the searcher fails.
        """
        number = len(self._history.trials) + 1
        trial = f"t{number:03}"
        if number <= len(self._given):
            return dataclasses.replace(self._given[number - 1], trial=trial, time=time.time())
        sets = self._history.sets()
        if sets and len(sets[-1].trials) < self._config.repeats:
            first = self._history.trials[sets[-1].id]
            seed = first.seed + len(sets[-1].trials)
            return TrialSuggested(
                trial=trial, params=first.params, origin="repeat", seed=seed, of=first.id
            )
        try:
            params = self._searcher.propose(self._history)
        except UserError as error:  # a constraint has no location of its own
            raise UserError(error.problems, error.where or self._where) from None
        if params is None:
            return None
        given = len(self._space.first_params)
        origin: Origin = "first_params" if len(sets) < given else "searcher"
        seed = trial_seed(self._space, params, self._config.seed)
        return TrialSuggested(trial=trial, params=params, origin=origin, seed=seed)


class ConfirmationRuns:
    """Suggests the runs of a confirmation: all arms with one seed, then with the next.

    Args:
        asked: What the confirmation compares.
        history: The history of the search.
    """

    def __init__(self, asked: ConfirmationStarted, history: History) -> None:
        self._asked = asked
        self._search = history

    def suggest(self) -> TrialSuggested | None:
        """Return the next run; None if there are no more."""
        assert self._search.confirmation is not None, "it has begun"
        arms = self._asked.arms
        turn, place = divmod(len(self._search.confirmation.runs.trials), len(arms))
        if turn == len(self._asked.seeds):
            return None
        trial = self._search.trials[arms[place]]
        return TrialSuggested(
            trial=_run_id(turn * len(arms) + place),
            params=trial.params,
            origin=trial.origin if turn == 0 else "repeat",
            seed=self._asked.seeds[turn],
            of=None if turn == 0 else _run_id(place),
        )


def _run_id(number: int) -> str:
    return f"c{number + 1:03}"
