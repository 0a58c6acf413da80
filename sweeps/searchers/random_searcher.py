"""Random search: independent draws, whatever earlier trials achieved.

Runs in the sweep process. It must not know about any result.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.samplers import RandomSampler

from sweeps.records.history import History
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.searchers.base import Params
from sweeps.searchers.candidates import Candidates
from sweeps.searchers.optuna_space import OptunaSpace
from sweeps.space.search_space import SearchSpace


class RandomSearcher:
    """Draws with Optuna's random sampler, seeded for each proposal.

    Args:
        space: The search space.
        seed: The seed of the search.
        warm_start: Has no effect, since nothing is learned from trials.
    """

    def __init__(
        self, space: SearchSpace, seed: int, warm_start: Sequence[WarmStartTrial] = ()
    ) -> None:
        self._candidates = Candidates(space, seed)
        self._space = OptunaSpace(space)

    def propose(self, history: History) -> Params | None:
        """See `Searcher.propose`."""
        return self._candidates.propose(
            history, lambda seed: self._space.draws(RandomSampler(seed=seed), history.mode)
        )
