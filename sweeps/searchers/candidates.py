"""The rules around every proposal, whatever the algorithm draws.

Runs in the sweep process. It must not know how a searcher draws or what it has observed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Set
from random import Random
from typing import Any

from sweeps.records.history import History
from sweeps.searchers.base import Params
from sweeps.space import domains
from sweeps.space.conditions import branches, choose, holds
from sweeps.space.constraints import broken_constraint
from sweeps.space.search_space import SearchSpace, fixed_values

DRAWS = 50
"""Maximum number of draws of a searcher for one params set; after that, `Candidates` itself
searches."""
MOST = 10_000
"""Maximum number of params that are enumerated in a finite space, or drawn at random in any
other."""


def identity(params: Mapping[str, Any]) -> str:
    """Return a text that is the same for equal params; fractions are compared to 12 digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(inner) for inner in value]
        return float(f"{value:.12g}") if isinstance(value, float) else value

    return json.dumps({key: rounded(value) for key, value in params.items()}, sort_keys=True)


class Candidates:
    """Chooses params among a searcher's draws.

    The space's `first_params` come first. After that, params must satisfy the constraints and must
    be new. If all draws are rejected, a small finite space is enumerated in random order, and any
    other space is sampled at random.

    Args:
        space: The search space.
        seed: The seed of the sweep's searcher.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._branches = branches(space.tuned)
        self._fixed = fixed_values(space)

    def propose(self, history: History, draws: Callable[[int], Iterator[Params]]) -> Params | None:
        """Return the next params after a history; see `choose`."""
        sets = history.sets()
        return self.choose(len(sets) + 1, {identity(one.params) for one in sets}, draws)

    def choose(
        self, number: int, had: Set[str], draws: Callable[[int], Iterator[Params | None]]
    ) -> Params | None:
        """Return params that may be tried; None if none are found.

        Args:
            number: The number of the params set, from 1.
            had: The `identity` of every earlier params set.
            draws: Called with a seed and yields the searcher's draws. The next draw is taken only
                if the previous one was rejected; None ends the search.

        Raises:
            UserError: A constraint raises or returns something other than True or False.
        """
        if number <= len(self._space.first_params):
            return dict(self._space.first_params[number - 1])
        seed = (self._seed * 1_000_003 + number) % 2**32
        refused: set[str] = set()
        for params in itertools.chain(draws(seed), self._searched(seed)):
            if params is None:
                return None
            key = identity(params)
            if key in had or key in refused:
                continue
            if broken_constraint(self._space, params) is None:
                return params
            refused.add(key)
        return None

    def _searched(self, seed: int) -> Iterator[Params]:
        """Yield all params of a small finite space in random order, or random draws."""
        generator = Random(seed)
        if all(domains.values(branch.domain) is not None for branch in self._branches):
            every = list(itertools.islice(self._every(0, {}), MOST + 1))
            if len(every) <= MOST:
                yield from generator.sample(every, len(every))
                return
        for _ in range(MOST):
            yield choose(self._branches, self._fixed, lambda of: domains.draw(of.domain, generator))

    def _every(self, at: int, params: Params) -> Iterator[Params]:
        """Yield all params of a finite space that begin with these."""
        if at == len(self._branches):
            yield params
            return
        branch = self._branches[at]
        if not holds(branch.condition, {**self._fixed, **params}):
            yield from self._every(at + 1, params)
            return
        for value in domains.values(branch.domain) or ():
            yield from self._every(at + 1, {**params, branch.key: value})
