"""What the choice of evaluation rows alone may have done: trials compared row by row.

Pure functions over reports. They must not know who won.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sweeps.report import Report


def only_right_in(one: Report, other: Report) -> tuple[int, int] | None:
    """Return how many rows only the one got right, and only the other; None if not comparable.

    They are not where a report lacks its rows, or was made from other ones.
    """
    if not one.right_rows or not other.right_rows or one.eval_rows != other.eval_rows:
        return None
    labels, right = one.right_rows.split(":")
    other_labels, other_right = other.right_rows.split(":")
    if labels != other_labels:
        return None
    a, b = int(right, 16), int(other_right, 16)
    return (a & ~b).bit_count(), (b & ~a).bit_count()


def mcnemar(only_one: int, only_other: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Of the rows that one alone got right, half are expected to be each one's.
    """
    n, k = only_one + only_other, min(only_one, only_other)
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term, tail = math.exp(log_ways - n * math.log(2)), 0.0
    while tail + term > tail:  # from the largest term down, until they no longer count
        tail += term
        term *= k / (n - k + 1)
        k -= 1
    return min(1.0, 2 * tail)


def lead_by_noise(reports: Sequence[Report]) -> float | None:
    """Return how far ahead of their mean the best of equally good trials is expected to be.

    Args:
        reports: The best report of each trial; their models are taken to be equally good, and to
            differ in as many rows as these do.

    Returns:
        In units of the share of right rows; None below two comparable reports.
    """
    pairs = [only_right_in(reports[0], other) for other in reports[1:]]
    differing = [sum(pair) for pair in pairs if pair is not None]
    if not differing or not reports[0].eval_rows:
        return None
    # The difference of two trials has this variance, each of them half of it.
    sd = math.sqrt(statistics.fmean(differing) / 2) / reports[0].eval_rows
    return sd * _largest_of(len(differing) + 1)


def _largest_of(n: int) -> float:
    """Return the expected largest of n standard normal values."""
    normal = statistics.NormalDist()
    steps = [-8 + i / 50 for i in range(801)]
    return sum(x * n * normal.pdf(x) * normal.cdf(x) ** (n - 1) for x in steps) / 50
