"""Converts values to the form in the log and back: numpy numbers, tuples, arrays, `Enum` members.

Used where a space is created, and where a trial's params become arguments. It must not know about
keys.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search.sample import Categorical, Domain, Float, Integer, Quantized


class Choice(Categorical):
    """A choice between values that are logged in another form; `categories` has the logged form.

    Args:
        meant: The values that trials get.
    """

    def __init__(self, meant: Sequence[Any]) -> None:
        super().__init__([plain(value) for value in meant])
        self.meant = list(meant)


def plain(value: Any) -> Any:
    """Return a value in the form of the log.

    A tuple or array becomes a list. An `Enum` member becomes its name, or its value if the member
    is itself a string or number.
    """
    if isinstance(value, Enum):
        return value.value if isinstance(value, str | int | float) else value.name
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def unboxed(value: Any) -> Any:
    """Return a numpy number as a Python number; any other value is returned as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, Enum | np.generic | np.ndarray | tuple)


def in_json(value: Any) -> Any:
    """Return the value for strict JSON, with the `repr` of anything that JSON cannot represent."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {str(key): in_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [in_json(inner) for inner in value]
    kept = value is None or isinstance(value, bool | int | str)
    return value if kept or (isinstance(value, float) and math.isfinite(value)) else repr(value)


def plain_domain(domain: Any) -> Any:
    """Return a domain whose choices and bounds are plain; anything else is returned as it is."""
    if isinstance(domain, Categorical) and not isinstance(domain, Choice):
        choices = list(map(unboxed, domain.categories))
        return tune.choice(choices) if all(map(_is_plain, choices)) else Choice(choices)
    if isinstance(domain, Float | Integer):
        domain = copy.copy(domain)
        domain.lower, domain.upper = plain(domain.lower), plain(domain.upper)
        if isinstance(sampler := domain.get_sampler(), Quantized):
            domain.sampler = copy.copy(sampler)
            domain.sampler.q = plain(sampler.q)
    return domain


def meant_choices(domain: Categorical) -> list[Any]:
    """Return the values of a choice that trials get."""
    return list(domain.meant if isinstance(domain, Choice) else domain.categories)


def meant_of(domain: Domain, value: Any) -> Any:
    """Return the value that a trial gets for a plain value of this domain."""
    if isinstance(domain, Choice) and value in domain.categories:
        return domain.meant[domain.categories.index(value)]
    return value
