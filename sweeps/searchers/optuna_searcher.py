"""Who proposes params: Optuna, its study rebuilt from the history at each ask.

Runs in the sweep process. It must not know how trials are trained; what they achieved it reads from
the history.
"""

from __future__ import annotations

import functools
import itertools
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.config import SweepConfig
from sweeps.records.events import Origin
from sweeps.records.history import History
from sweeps.records.params_set import ParamsSet
from sweeps.searchers.base import WarmStartTrial
from sweeps.searchers.distributions import distribution, drawn_for, value_of
from sweeps.space import domains
from sweeps.space.conditions import Branch, active_branches, branches, choose, holds
from sweeps.space.constraints import broken_constraint
from sweeps.space.search_space import SearchSpace, fixed_values

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTUP = 10
"""Trials before Optuna's TPE learns from them; until then it draws at random."""
DRAWS = 50
"""Draws of the sampler for one trial that may be refused, before the rest is searched."""
MOST = 10_000
"""Params of a finite space that are looked through, and random draws from another, at most."""


def identity(params: Any) -> str:
    """Return what two equal params have in common; fractions count to 12 digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(inner) for inner in value]
        return float(f"{value:.12g}") if isinstance(value, float) else value

    return json.dumps({key: rounded(value) for key, value in params.items()}, sort_keys=True)


class Proposals:
    """Proposes params, the same ones for the same seed and history.

    Every ask builds an Optuna study from the history (about 2 ms a trial) and asks a sampler
    seeded by (sweep seed, number of the params), so a resumed sweep goes on as if unbroken. A
    parameter is asked only where its condition holds. Params that break a constraint, or that a
    trial had already, are told to the study as pruned and drawn again.

    Args:
        space: The search space.
        config: For the searcher's name and the seed.
        known: What an earlier sweep found.
    """

    def __init__(
        self, space: SearchSpace, config: SweepConfig, known: Sequence[WarmStartTrial] = ()
    ) -> None:
        self._space = space
        self._config = config
        self._branches = branches(space.tuned)
        self._fixed = fixed_values(space)
        self._known = known
        self._distributions = {
            branch.name: distribution(branch.domain) for branch in self._branches
        }

    def propose(self, history: History) -> tuple[dict[str, Any], Origin] | None:
        """Return the next params, and where they come from.

        None where none are found that keep the constraints and that no trial has had.

        Raises:
            UserError: A constraint raises, or answers something else than True or False.
        """
        sets = history.sets()
        number = len(sets) + 1
        if number <= len(self._space.first_params):
            return dict(self._space.first_params[number - 1]), "first_params"
        had = {identity(one.params) for one in sets}
        seed = (self._config.seed * 1_000_003 + number) % 2**32
        refused: set[str] = set()
        for params in itertools.chain(self._sampled(history, seed), self._searched(seed)):
            key = identity(params)
            if key in had or key in refused:
                continue
            if broken_constraint(self._space, params) is None:
                return params, "searcher"
            refused.add(key)
        return None

    def _sampled(self, history: History, seed: int) -> Iterator[dict[str, Any]]:
        """Yield what the sampler draws; a draw that is asked for again was refused."""
        told = [self._frozen(of.params, TrialState.COMPLETE, of.value) for of in self._known]
        told += [self.told(one) for one in history.sets()]
        study = optuna.create_study(
            direction="maximize" if history.mode == "max" else "minimize",
            sampler=self._sampler(seed, told),
        )
        study.add_trials(told)
        for _ in range(DRAWS):
            trial = study.ask()
            yield choose(self._branches, self._fixed, functools.partial(self._ask, trial))
            study.tell(trial, state=TrialState.PRUNED)

    def _ask(self, trial: optuna.Trial, branch: Branch) -> Any:
        """Return the value of one branch; asked one by one, so Optuna sees who depends on whom."""
        found = self._distributions[branch.name]
        match found:
            case CategoricalDistribution():
                drawn: Any = trial.suggest_categorical(branch.name, found.choices)
            case IntDistribution():
                drawn = trial.suggest_int(
                    branch.name, found.low, found.high, step=found.step, log=found.log
                )
            case FloatDistribution():
                drawn = trial.suggest_float(
                    branch.name, found.low, found.high, step=found.step, log=found.log
                )
        return value_of(branch.domain, drawn)

    def _searched(self, seed: int) -> Iterator[dict[str, Any]]:
        """Yield all params of a small finite space in a random order, else random draws."""
        generator = Random(seed)
        if all(domains.values(branch.domain) is not None for branch in self._branches):
            every = list(itertools.islice(self._every(0, {}), MOST + 1))
            if len(every) <= MOST:
                yield from generator.sample(every, len(every))
                return
        for _ in range(MOST):
            yield choose(self._branches, self._fixed, lambda of: domains.draw(of.domain, generator))

    def _every(self, at: int, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
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

    def _sampler(self, seed: int, told: list[FrozenTrial]) -> optuna.samplers.BaseSampler:
        # Refused draws are told, too: only the trials before this one tell when to begin.
        learns = sum(trial.state != TrialState.FAIL for trial in told) >= STARTUP
        if self._config.searcher == "random" or not learns:
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, constant_liar=True)

    def told(self, params_set: ParamsSet) -> FrozenTrial:
        """Return what Optuna is told of a params set: its mean, or why there is none."""
        value = params_set.mean
        if not params_set.ended:
            state, value = TrialState.RUNNING, None
        elif any(t.failure in ("diverged", "out_of_memory") for t in params_set.trials):
            state, value = TrialState.PRUNED, None
        elif value is None:
            state = TrialState.FAIL
        else:
            state = TrialState.COMPLETE
        return self._frozen(params_set.params, state, value)

    def _frozen(
        self, params: Mapping[str, Any], state: TrialState, value: float | None
    ) -> FrozenTrial:
        found = active_branches(self._branches, self._fixed, params)
        return optuna.trial.create_trial(
            state=state,
            params={
                branch.name: drawn_for(branch.domain, params[key]) for key, branch in found.items()
            },
            distributions={
                branch.name: self._distributions[branch.name] for branch in found.values()
            },
            value=value,
        )
