"""How far the choice of evaluation rows may explain differences: compares trials row by row.

Pure functions over reports. They must not know who won.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sweeps.answer.seed_statistics import LEVEL, of_equal, t_quantile, t_test
from sweeps.records.row_values import labels_of, row_values, spread
from sweeps.report import Report


@dataclass(frozen=True)
class Difference:
    """The difference between two metrics, and how precisely it is known."""

    mean: float
    error: float
    """The standard error of the mean; 0 if all differences are equal."""
    df: int
    """The degrees of freedom of the standard error."""

    @property
    def half(self) -> float:
        """Half the width of the 95 % t-interval."""
        return t_quantile(self.df) * self.error

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t-interval; None if all differences are equal."""
        return (self.mean - self.half, self.mean + self.half) if self.error else None

    @property
    def p_value(self) -> float:
        """The two-sided p-value of the t-test against a difference of 0.

        For equal differences, it is that of the sign-flip test.
        """
        if self.error == 0:
            return of_equal(self.df + 1) if self.mean else 1.0
        return t_test(self.mean / self.error, self.df)


def comparable(reports: Sequence[Report]) -> bool:
    """Tell whether all reports have values per row, for the same rows."""
    first, *others = map(labels_of, reports)
    return first is not None and all(labels == first for labels in others)


@dataclass(frozen=True)
class Comparison:
    """How two trials compare row by row."""

    p_value: float
    """How often the choice of rows alone makes equally good trials differ at least this much."""
    error: float
    """The standard error of their difference if they are equally good."""


def compare(one: Report, other: Report) -> Comparison | None:
    """Compare two trials; None if the rows are not known, or not the same.

    This is McNemar's exact test if rows are right or wrong, otherwise the paired t-test over rows,
    which amounts to a bootstrap of the rows.
    """
    pair = only_right_in(one, other)
    if pair is not None and one.eval_rows:
        return Comparison(mcnemar(*pair), math.sqrt(sum(pair)) / one.eval_rows)
    found = over_rows(one, other)
    return Comparison(found.p_value, found.error) if found is not None else None


def only_right_in(one: Report, other: Report) -> tuple[int, int] | None:
    """Return how many rows only one got right, and only the other; None if not comparable."""
    if not one.right_rows or not other.right_rows or not comparable([one, other]):
        return None
    a, b = (int(each.right_rows.split(":")[1], 16) for each in (one, other) if each.right_rows)
    return (a & ~b).bit_count(), (b & ~a).bit_count()


@lru_cache(maxsize=1 << 14)  # among thousands of trials, many differ by the same numbers of rows
def mcnemar(only_one: int, only_other: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Of the rows that only one of the two got right, each is expected to have half.
    """
    n, k = only_one + only_other, min(only_one, only_other)
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term, tail = math.exp(log_ways - n * math.log(2)), 0.0
    while tail + term > tail:  # from the largest term down, until terms no longer matter
        tail += term
        term *= k / (n - k + 1)
        k -= 1
    return min(1.0, 2 * tail)


def over_rows(one: Report, other: Report) -> Difference | None:
    """Return the difference of two trials over rows alone; None if they are not comparable."""
    if not comparable([one, other]):
        return None
    a, b = row_values(one), row_values(other)
    if a is None or b is None or a.shape != b.shape or len(a) < 2:
        return None
    differences = a - b
    error = spread(differences) / math.sqrt(len(a))
    return Difference(float(differences.mean()), error, len(a) - 1)


def over_seeds_and_rows(pairs: Sequence[tuple[Report, Report]]) -> Difference | None:
    """Return the mean difference of two params sets, over fresh seeds and fresh rows.

    Every seed is judged on the same rows, so a difference has a part due to its seed, a part due to
    its row, and a residual: these are variance components of a crossed design (Searle, Casella,
    McCulloch 1992, 4.2). The degrees of freedom are Satterthwaite's. If the rows add no variance,
    the result is the t-interval over the seeds. It is never narrower than that: a few seeds
    may vary little by chance, and Satterthwaite's formula then gives too many degrees of freedom.

    Args:
        pairs: The best reports of one and of the other, for each seed.

    Returns:
        None with fewer than two seeds, or if the rows of a run are not known or not the same.
    """
    import numpy as np  # imported here: most readers do not need it

    if len(pairs) < 2 or not comparable([report for pair in pairs for report in pair]):
        return None
    values = [[row_values(report) for report in pair] for pair in pairs]
    drawn = [a - b for a, b in values if a is not None and b is not None and a.shape == b.shape]
    if len(drawn) < len(pairs) or len(drawn[0]) < 2:
        return None
    table = np.stack(drawn)
    seeds, rows = table.shape
    if spread(table) == 0:
        return Difference(float(table.mean()), 0.0, seeds - 1)
    mean, of_seed, of_row = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - of_seed[:, None] - of_row + mean
    rest_square = float((rest**2).sum()) / ((seeds - 1) * (rows - 1))
    of_rest = rest_square / (seeds * rows)
    by_seed, seed_df = spread(of_seed) ** 2 / seeds, seeds - 1
    alone = Difference(float(mean), math.sqrt(by_seed), seed_df)
    # Keep both parts from being negative: on few rows, all seeds may have equal means by chance.
    if by_seed < of_rest:
        by_seed, seed_df = of_rest, (seeds - 1) * (rows - 1)
    by_row = max(0.0, float(of_row.var(ddof=1)) / rows - of_rest)
    variance = by_seed + by_row
    df = variance**2 / (by_seed**2 / seed_df + by_row**2 / (rows - 1))
    both = Difference(float(mean), math.sqrt(variance), int(df + 1e-9))
    return max(alone, both, key=lambda each: each.half)


def lead_by_noise(others: Sequence[Comparison]) -> float | None:
    """Return how far ahead of their mean the best of equally good trials is expected to be.

    Args:
        others: How one of the trials compares with each of the others. The models are assumed to
            be equally good, and to differ on the rows as that one differs from those that cannot
            be told apart from it.

    Returns:
        The lead in units of the metric; None without another trial.
    """
    if not others:
        return None
    alike = [found.error for found in others if found.p_value > 1 - LEVEL]
    alike = alike or [min(found.error for found in others)]
    # This is the variance of the difference between two trials; each trial has half of it.
    sd = math.sqrt(statistics.fmean(error**2 for error in alike) / 2)
    return sd * _largest_of(len(others) + 1)


def _largest_of(n: int) -> float:
    """Return the expected largest of n standard normal values."""
    normal = statistics.NormalDist()
    steps = [-8 + i / 50 for i in range(801)]
    return sum(x * n * normal.pdf(x) * normal.cdf(x) ** (n - 1) for x in steps) / 50
