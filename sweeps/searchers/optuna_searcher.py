"""Optuna's TPE, its study rebuilt from the history for each proposal (about 2 ms a trial).

Runs in the sweep process. It must not know how trials are trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from sweeps.records.history import History
from sweeps.searchers.base import Params, WarmStartTrial
from sweeps.searchers.candidates import Candidates
from sweeps.searchers.optuna_space import OptunaSpace
from sweeps.space.search_space import SearchSpace

STARTUP = 10
"""Trials that did not fail before TPE learns from them; until then it draws at random."""


class OptunaSearcher:
    """Tree-structured Parzen estimator: Bergstra et al. 2011, "Algorithms for Hyper-Parameter
    Optimization", section 4; Optuna's implementation, seeded for each proposal.

    Args:
        space: The search space.
        seed: Of the search.
        warm_start: Trials of an earlier sweep, observed before the first proposal.
    """

    def __init__(
        self, space: SearchSpace, seed: int, warm_start: Sequence[WarmStartTrial] = ()
    ) -> None:
        self._candidates = Candidates(space, seed)
        self._space = OptunaSpace(space)
        self._warm_start = warm_start

    def propose(self, history: History) -> Params | None:
        """See `Searcher.propose`."""

        def draws(seed: int) -> Iterator[Params]:
            trials = [self._space.observed_before(trial) for trial in self._warm_start]
            trials += [self._space.observed(one) for one in history.sets()]
            # Counted here: the sampler itself would count refused draws as well.
            learns = sum(trial.state != TrialState.FAIL for trial in trials) >= STARTUP
            sampler = _tpe(seed) if learns else RandomSampler(seed=seed)
            return self._space.draws(sampler, history.mode, trials)

        return self._candidates.propose(history, draws)


def _tpe(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=0, constant_liar=True)
