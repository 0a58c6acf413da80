"""Params that ran with several seeds: each run's value, and the interval of their mean.

Pure functions over the confirmation if there is one, else over the repeats of the search. They must
not judge: `answer/confirmation.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sweeps.answer.answer import Answer
from sweeps.answer.seed_statistics import Estimate
from sweeps.answer.standing import mean_over_seeds
from sweeps.records.history import History

SHOWN = 12
"""Maximum number of params sets shown for a search with repeats, best first."""


@dataclass(frozen=True, kw_only=True)
class OfParams:
    """The runs of one params set."""

    params_set: str
    baseline: bool
    search_value: float | None
    """The search's value, if fresh seeds confirm it."""
    values: Sequence[float | None]
    """The value for each seed; None if that run failed or has not ended."""
    mean: Estimate | None
    """The mean, with its 95 % t-interval."""


@dataclass(frozen=True, kw_only=True)
class SeedValues:
    """All params that ran with several seeds."""

    source: Literal["confirmation", "repeats"]
    params: Sequence[OfParams]


def find_seed_values(history: History, answer: Answer) -> SeedValues | None:
    """Return the values by seed; None if every params set ran once."""
    confirmed = answer.confirmation
    if confirmed is not None:
        return SeedValues(
            source="confirmation",
            params=tuple(
                OfParams(
                    params_set=arm.params_set,
                    baseline=arm.params_set == confirmed.baseline,
                    search_value=arm.search_value,
                    values=arm.values,
                    mean=arm.confirmed,
                )
                for arm in confirmed.arms
            ),
        )
    if history.repeats == 1:
        return None
    ranked = dict.fromkeys(history.set_of(trial).id for trial in history.ranked())
    first = answer.baseline.params_set if answer.baseline is not None else None
    sets = [history.set_of(history.trials[name]) for name in list(ranked)[:SHOWN]]
    return SeedValues(
        source="repeats",
        params=tuple(
            OfParams(
                params_set=own.id,
                baseline=own.id == first,
                search_value=None,
                values=tuple(own.values),
                mean=mean_over_seeds(own.values, history.metric),
            )
            for own in sets
            if own.values
        ),
    )
