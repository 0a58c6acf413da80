"""Statistics of a few runs that differ only in their seed: intervals, paired tests, power.

Pure functions, used wherever a confirmation is judged or planned. They must not know runs, metrics,
or which direction is better.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sweeps.report import alike

LEVEL = 0.95
"""Share of intervals that contain the true value; a p-value of at most 1 - LEVEL is significant."""
POWER = 0.8
"""Share of true differences of the planned size that should be found."""
MOST_SEEDS = 20
"""The sign-flip test tries all 2 ** seeds combinations of signs: a million for 20 seeds."""
IN_32_BITS = 2.0**-23
"""Relative error of the difference of two equal values of which each was rounded to 32 bits."""
MOST_DF = 1000
"""Cap on degrees of freedom, because the time of a test grows with them. It changes a p-value of
0.05 by less than 1 %."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds, and how precisely it is known."""

    n: int
    """Number of values."""
    mean: float
    sd: float | None
    """Sample standard deviation; None below two values."""
    low: float | None
    """Lower end of the 95 % t-interval of the mean; None unless two values differ: equal values do
    not show how far others may be."""
    high: float | None
    """Upper end of the interval."""


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return mean, standard deviation and t-interval of the mean; None without values."""
    n = len(values)
    if n == 0:
        return None
    mean = statistics.fmean(values)
    if n == 1:
        return Estimate(n=n, mean=mean, sd=None, low=None, high=None)
    if alike(values):
        return Estimate(n=n, mean=mean, sd=0.0, low=None, high=None)
    sd = statistics.stdev(values)
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Estimate(n=n, mean=mean, sd=sd, low=mean - half, high=mean + half)


def paired_differences(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """Return the first value of each pair minus its second, for a test.

    Differences, signs aside, are equal if rounding the values to 32 bits may have made them
    differ; such metrics are common. A test would take what rounding adds for the noise of seeds.
    """
    slack = 2 * IN_32_BITS * max((abs(value) for pair in pairs for value in pair), default=0.0)
    sizes = [0.0]  # of the differences so far
    found = []
    for value, other in pairs:
        gap = value - other
        size = next((one for one in sizes if abs(abs(gap) - one) <= slack), abs(gap))
        sizes.append(size)
        found.append(math.copysign(size, gap) if size else 0.0)
    return found


def paired_t(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the paired t-test of a mean difference of 0.

    For equal differences, it is that of the sign-flip test.
    """
    found = estimate(differences)
    if found is None or found.sd is None or found.mean == 0:
        return 1.0
    if found.sd == 0:
        return of_equal(found.n)
    return t_test(found.mean / (found.sd / math.sqrt(found.n)), found.n - 1)


def of_equal(differences: int) -> float:
    """Return the two-sided p-value of this many equal differences: the sign-flip test's.

    The t-test has none, because they do not show how far others may be.
    """
    return 2.0 ** (1 - differences)


def t_test(t: float, df: int) -> float:
    """Return the two-sided p-value of a t statistic with `df` degrees of freedom."""
    return max(0.0, 1 - _share_within(abs(t), df))


def z_test(z: float) -> float:
    """Return the two-sided p-value of a standard normal statistic."""
    return math.erfc(abs(z) / math.sqrt(2))


def sign_flip(differences: Sequence[float]) -> float:
    """Return the exact two-sided p-value of the sign-flip test.

    There are 2^n ways to give each difference a sign; the p-value is the share of them whose mean
    is at least as far from 0 as the observed one. The test assumes symmetry around 0, but no normal
    distribution. The smallest p-value for n differences is 2 / 2^n: 0.0625 for 5, 0.031 for 6.

    Args:
        differences: At most `MOST_SEEDS`.
    """
    import numpy as np  # imported here: most readers do not need it

    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    # The order of summation changes the last bits, and values in 32 bits change more.
    slack = 1e-4 * sum(map(abs, differences))
    return float(np.mean(np.abs(sums) >= abs(math.fsum(differences)) - slack))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for multiple testing (Holm 1979), in the order given."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def power(gap: float, seeds: int) -> float:
    """Return how often the paired t-test finds a true difference between two arms.

    Args:
        gap: The difference, in standard deviations between the seeds of an arm. The arms are
            assumed to vary independently; if equal seeds vary alike, the power is higher.
        seeds: Runs of each arm, at least 2.
    """
    df = seeds - 1
    shift, critical = gap * math.sqrt(seeds / 2), t_quantile(df)
    # Integrate over the observed sd in units of the true one: chi with df degrees / sqrt(df).
    points = [i / 400 for i in range(1, 2400)]
    logs = [df * math.log(s) - math.log(s) - df * s * s / 2 for s in points]
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    found = sum(
        weight * (_normal(shift - critical * s) + _normal(-shift - critical * s))
        for weight, s in zip(weights, points, strict=True)
    )
    return found / sum(weights)


@cache
def smallest_gap(seeds: int) -> float:
    """Return the true difference that the paired t-test finds with 80 % power; see `power`."""
    low, high = 0.0, 100.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, seeds) >= POWER else (middle, high)
    return high


@cache
def t_quantile(df: int) -> float:
    """Return the value that |t| with `df` degrees of freedom stays below in 95 % of cases."""
    low, high = 0.0, 16.0  # 12.7 for one degree
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if _share_within(middle, df) >= LEVEL else (middle, high)
    return high


def _share_within(t: float, df: int) -> float:
    """Return P(|T| <= t) of Student's t (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    df = min(df, MOST_DF)
    angle = math.atan(t / math.sqrt(df))
    cos, sin = math.cos(angle), math.sin(angle)
    odd = df % 2
    term, total = (cos if odd else 1.0), 0.0
    for i in range(df // 2):
        total += term
        term *= cos * cos * (2 * i + 1 + odd) / (2 * i + 2 + odd)
    return (angle + sin * total) * 2 / math.pi if odd else sin * total


def _normal(x: float) -> float:
    """Return the standard normal distribution function."""
    return math.erfc(-x / math.sqrt(2)) / 2
