"""Who proposes params: Optuna, its study rebuilt from the history at each ask.

Runs in the sweep process. It must not know how trials are trained; what they achieved it reads from
the history.
"""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.sample import Categorical, Domain, Integer, LogUniform, Quantized

from sweeps.records.events import Origin
from sweeps.records.history import History, Trial
from sweeps.search.config import SweepConfig
from sweeps.space.search_space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)


def distribution(domain: Domain) -> BaseDistribution:
    """Return Optuna's form of a domain.

    A quantum on a log scale is not known to Optuna: the draw is rounded by `value_of`.
    """
    if isinstance(domain, Categorical):
        return CategoricalDistribution(range(len(domain.categories)))
    sampler = domain.get_sampler()
    quantum = sampler.q if isinstance(sampler, Quantized) else None
    log = isinstance(sampler.sampler if isinstance(sampler, Quantized) else sampler, LogUniform)
    if isinstance(domain, Integer):
        last = domain.upper if quantum else domain.upper - 1
        return IntDistribution(domain.lower, last, log=log, step=1 if log else int(quantum or 1))
    return FloatDistribution(domain.lower, domain.upper, log=log, step=None if log else quantum)


def value_of(domain: Domain, drawn: Any) -> Any:
    """Return the argument's value for what Optuna drew: a choice for its index, quanta rounded."""
    if isinstance(domain, Categorical):
        return domain.categories[drawn]
    sampler = domain.get_sampler()
    if isinstance(sampler, Quantized) and isinstance(sampler.sampler, LogUniform):
        rounded = round(drawn / sampler.q) * sampler.q
        rounded = min(max(rounded, domain.lower), domain.upper)
        return int(rounded) if isinstance(domain, Integer) else float(rounded)
    return drawn


def drawn_for(domain: Domain, value: Any) -> Any:
    """Return what Optuna would have drawn for a value."""
    if not isinstance(domain, Categorical):
        return value
    equal = [i for i, choice in enumerate(domain.categories) if choice == value]
    # 1 == True, and 0 stands for a choice of 0.0: the type decides only between equals.
    same = [i for i in equal if type(domain.categories[i]) is type(value)]
    return (same or equal)[0]


class Proposals:
    """Proposes params, the same ones for the same seed and history.

    Every ask builds an Optuna study from the history (about 2 ms a trial) and asks a sampler
    seeded by (sweep seed, trial number), so a resumed sweep goes on as if unbroken.

    Args:
        space: The search space.
        config: For the searcher's name and the seed.
    """

    def __init__(self, space: SearchSpace, config: SweepConfig) -> None:
        self._space = space
        self._config = config
        self._distributions = {k: distribution(d) for k, d in space.tuned.items()}

    def propose(self, history: History) -> tuple[dict[str, Any], Origin]:
        """Return the next trial's params, and where they come from."""
        number = len(history.trials) + 1
        if number <= len(self._space.first_params):
            return dict(self._space.first_params[number - 1]), "first_params"
        study = optuna.create_study(
            direction="maximize" if history.mode == "max" else "minimize",
            sampler=self._sampler(number),
        )
        study.add_trials([self._told(trial, history) for trial in history.trials.values()])
        asked = study.ask(self._distributions)
        tuned = self._space.tuned
        return {key: value_of(tuned[key], asked.params[key]) for key in tuned}, "searcher"

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = (self._config.seed * 1_000_003 + number) % 2**32
        if self._config.searcher == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _told(self, trial: Trial, history: History) -> FrozenTrial:
        """Return what Optuna is told of a trial: its best value, or why there is none."""
        value = history.value(trial)
        if trial.status in ("waiting", "running"):
            state, value = TrialState.RUNNING, None
        elif trial.failure in ("diverged", "out_of_memory"):
            state, value = TrialState.PRUNED, None
        elif value is None:
            state = TrialState.FAIL
        else:
            state = TrialState.COMPLETE
        tuned = self._space.tuned
        return optuna.trial.create_trial(
            state=state,
            params={key: drawn_for(tuned[key], trial.params[key]) for key in tuned},
            distributions=self._distributions,
            value=value,
        )
