"""What ASHA is expected to do: trials at each rung, evaluations, work.

Pure; used by `plan`. It must not know any trial: it draws standings at random.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sweeps.config import SweepConfig

DRAWN = 4000
"""Trials that are simulated, at least."""


@dataclass(frozen=True)
class Rung:
    """A place where trials are compared, or their end."""

    progress: float
    """Share of a trial at the first evaluation that reaches the rung."""
    evaluation: int
    """Number of that evaluation."""
    trials: float
    """Trials that get there."""


@dataclass(frozen=True)
class Expectation:
    """What a number of trials come to."""

    rungs: Sequence[Rung]
    """Ascending; the last is the end of a trial."""
    work: float
    """Training done, in whole trials."""
    evaluations: float
    """Over all trials."""


def outcome(values: Sequence[float], config: SweepConfig, evaluations: int) -> Expectation:
    """Return what ASHA makes of trials that come one after another and keep their standing.

    A trial goes on at a rung if it is no worse than the `1 - 1 / reduction_factor` quantile of
    those that were there before it: Ray's `ASHAScheduler` (2.60) with one bracket.

    Args:
        values: How good each trial is, more is better, in the order in which they start.
        config: Scheduler and rungs.
        evaluations: Of a whole trial.
    """
    # Several rungs may fall on one evaluation: Ray asks the highest alone.
    at = {_evaluation(rung, evaluations): rung for rung in config.rungs}
    places = sorted(number for number in at if number < evaluations)
    seen: dict[int, list[float]] = {number: [] for number in places}
    ended = dict.fromkeys([*places, evaluations], 0)
    for value in values:
        for number in places:
            before = seen[number]
            stops = bool(before) and value < _quantile(before, 1 - 1 / config.reduction_factor)
            bisect.insort(before, value)
            if stops:
                ended[number] += 1
                break
        else:
            ended[evaluations] += 1
    rungs, left = [], len(values)
    for number, count in ended.items():
        rungs.append(Rung(number / evaluations, number, left))
        left -= count
    done = sum(number * count for number, count in ended.items())
    return Expectation(rungs, done / evaluations, done)


def expect(trials: int, config: SweepConfig, evaluations: int) -> Expectation:
    """Return the mean outcome of `trials` whose standing is random, and the same at every rung.

    Where curves cross, standings change and more trials go on.
    """
    generator = Random(0)
    sweeps = max(1, DRAWN // trials)
    found = [
        outcome([generator.random() for _ in range(trials)], config, evaluations)
        for _ in range(sweeps)
    ]
    rungs = [
        Rung(same[0].progress, same[0].evaluation, sum(rung.trials for rung in same) / sweeps)
        for same in zip(*(one.rungs for one in found), strict=True)
    ]
    return Expectation(
        rungs,
        sum(one.work for one in found) / sweeps,
        sum(one.evaluations for one in found) / sweeps,
    )


def _evaluation(rung: float, evaluations: int) -> int:
    """Return the number of the first evaluation at a rung or behind it."""
    return next(n for n in range(1, evaluations + 1) if n / evaluations + 1e-9 >= rung)


def _quantile(ascending: Sequence[float], share: float) -> float:
    """Return the quantile between the two nearest values, as numpy's `percentile` does."""
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)
