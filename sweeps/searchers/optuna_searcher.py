"""Optuna's TPE, with its study rebuilt from the history for each proposal.

Runs in the sweep process. It must not know how trials are trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from sweeps.records.history import History
from sweeps.records.params_set import ParamsSet
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.searchers.base import Params
from sweeps.searchers.candidates import Candidates
from sweeps.searchers.optuna_space import OptunaSpace
from sweeps.space.search_space import SearchSpace

STARTUP = 10
"""Number of params sets that must have begun, and not failed, before TPE learns from them; until
then it draws at random. Running ones count, as in Optuna: TPE keeps away from them."""


class OptunaSearcher:
    """Tree-structured Parzen estimator: Bergstra et al. 2011, "Algorithms for Hyper-Parameter
    Optimization", section 4; Optuna's implementation, seeded for each proposal.

    Args:
        space: The search space.
        seed: The seed of the search.
        warm_start: Trials of an earlier sweep, observed before the first proposal.
    """

    def __init__(
        self, space: SearchSpace, seed: int, warm_start: Sequence[WarmStartTrial] = ()
    ) -> None:
        self._candidates = Candidates(space, seed)
        self._space = OptunaSpace(space)
        self._before = [self._space.observed_before(trial) for trial in warm_start]
        self._ended: dict[str, tuple[ParamsSet, FrozenTrial]] = {}
        """Params sets that have ended, by id, each with the trial that Optuna observes for it."""

    def propose(self, history: History) -> Params | None:
        """See `Searcher.propose`."""

        def draws(seed: int) -> Iterator[Params]:
            trials = [*self._before, *map(self._observed, history.sets())]
            # Counted here, because the sampler itself would count rejected draws as well.
            learns = sum(trial.state != TrialState.FAIL for trial in trials) >= STARTUP
            sampler = _tpe(seed) if learns else RandomSampler(seed=seed)
            return self._space.draws(sampler, history.mode, trials)

        return self._candidates.propose(history, draws)

    def _observed(self, one: ParamsSet) -> FrozenTrial:
        """Return the trial that Optuna observes for a params set."""
        known = self._ended.get(one.id)
        if known is not None and known[0] is one:
            return known[1]
        trial = self._space.observed(one)
        if one.ended:
            self._ended[one.id] = one, trial
        return trial


def _tpe(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=0, constant_liar=True)
