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
from ray.tune.search.sample import Categorical, Domain

from sweeps.space.ranges import range_of


def distribution(domain: Domain) -> BaseDistribution:
    """Return Optuna's form of a domain.

    Optuna has no quantum on a log scale: `value_of` rounds the draw.
    """
    if isinstance(domain, Categorical):
        return CategoricalDistribution(range(len(domain.categories)))
    found = range_of(domain)
    assert found is not None
    step = None if found.log else found.quantum
    if found.whole:
        return IntDistribution(found.lower, found.last, log=found.log, step=int(step or 1))
    return FloatDistribution(found.lower, found.upper, log=found.log, step=step)


def value_of(domain: Domain, drawn: Any) -> Any:
    """Return the value for a draw of Optuna: the choice for an index, or a rounded number."""
    if isinstance(domain, Categorical):
        return domain.categories[drawn]
    found = range_of(domain)
    assert found is not None
    if found.log and found.quantum is not None:
        rounded = round(drawn / found.quantum) * found.quantum
        rounded = min(max(rounded, found.lower), found.upper)
        return int(rounded) if found.whole else float(rounded)
    return drawn


def drawn_for(domain: Domain, value: Any) -> Any:
    """Return what Optuna would have drawn for a value."""
    if not isinstance(domain, Categorical):
        return value
    equal = [i for i, choice in enumerate(domain.categories) if choice == value]
    # 1 == True and 0 == 0.0: among equal choices, one of the same type is preferred.
    same = [i for i in equal if type(domain.categories[i]) is type(value)]
    return (same or equal)[0]
