"""Ray's domains as Optuna distributions, and the values that Optuna's draws represent.

Runs in the sweep process, and in `report` for the importance of arguments. It must not know about
any study or trial.
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from ray.tune.search.sample import Categorical, Domain, Integer, LogUniform, Quantized


def distribution(domain: Domain) -> BaseDistribution:
    """Return Optuna's form of a domain.

    Optuna has no quantum on a log scale: `value_of` rounds the draw.
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
    """Return the value for a draw of Optuna: the choice for an index, or a rounded number."""
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
    # 1 == True and 0 == 0.0: among equal choices, one of the same type is preferred.
    same = [i for i in equal if type(domain.categories[i]) is type(value)]
    return (same or equal)[0]
