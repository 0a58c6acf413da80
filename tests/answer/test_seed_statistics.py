"""Intervals, paired tests and power, against published tables and by counting."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest

from sweeps.answer.seed_statistics import (
    estimate,
    holm,
    paired_differences,
    paired_t,
    power,
    sign_flip,
    smallest_gap,
    t_quantile,
)


def test_t_quantiles_are_those_of_the_printed_tables():
    printed = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 8: 2.306, 16: 2.120, 30: 2.042}
    assert {df: round(t_quantile(df), 3) for df in printed} == printed


def test_many_degrees_of_freedom_cost_no_more_than_a_thousand():
    assert t_quantile(10**9) == pytest.approx(1.96, rel=2e-3)


def test_an_interval_is_the_mean_and_t_standard_errors_around_it():
    found = estimate([0.90, 0.92, 0.91, 0.93])
    assert found is not None
    assert found.n == 4
    assert found.mean == pytest.approx(0.915)
    half = 3.18245 * statistics.stdev([0.90, 0.92, 0.91, 0.93]) / 2
    assert (found.low, found.high) == pytest.approx((0.915 - half, 0.915 + half))
    one = estimate([0.9])
    assert one is not None
    assert (one.mean, one.sd, one.low, one.high) == (0.9, None, None, None)
    assert estimate([]) is None


def test_the_paired_t_test_and_the_interval_say_the_same():
    # t = 2.3146 with 5 degrees of freedom.
    assert paired_t([0.3, 0.1, -0.2, 0.5, 0.4, 0.33]) == pytest.approx(0.0685137, abs=1e-6)
    for differences in itertools.product((-0.5, 0.5, 1.0, 1.2), repeat=4):
        if len(set(differences)) == 1:
            continue
        found = estimate(differences)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        holds_0 = found.low <= 0 <= found.high
        assert (paired_t(differences) > 0.05) == holds_0
    assert paired_t([0.0, 0.0]) == paired_t([0.2]) == 1


@pytest.mark.parametrize("n", [2, 3, 6, 9])
def test_equal_differences_show_no_more_than_their_number(n: int):
    """A t-test would take them as exact: p 0, and an interval without width."""
    assert paired_t([0.1] * n) == sign_flip([0.1] * n) == 2 / 2**n
    found = estimate([0.1] * n)
    assert found is not None
    assert (found.sd, found.low, found.high) == (0.0, None, None)
    found = estimate([*[0.1] * (n - 1), math.nextafter(0.1, 1)])
    assert found is not None
    assert found.low is None, "they differ only in rounding"


def exact(value: float) -> float:
    return value


def in_32_bits(value: float) -> float:
    return float(np.float32(value))


def in_percent_of_32_bits(value: float) -> float:
    return float(np.float32(100) * np.float32(value))


@pytest.mark.parametrize("kept", [exact, in_32_bits, in_percent_of_32_bits])
@pytest.mark.parametrize("rows", [7, 300, 450, 10_000])
def test_gaps_of_as_many_rows_are_equal_however_the_shares_are_rounded(
    rows: int, kept: Callable[[float], float]
):
    """Were the last digit of one of them another, a t-test would take this for all the noise."""
    for gap in {1, 2, rows // 9, rows // 2} - {0}:
        right = [*range(gap, rows + 1, max(1, rows // 12))][-6:]
        pairs = [(kept(k / rows), kept((k - gap) / rows)) for k in right]
        found = paired_differences(pairs)
        assert found == [pytest.approx(kept(gap / rows), rel=1e-3)] * len(right)
        assert paired_t(found) == sign_flip(found) == 2 / 2 ** len(right)
    one, two = kept(3 / rows) - kept(2 / rows), kept(3 / rows) - kept(1 / rows)
    found = paired_differences(
        [(kept(k / rows), kept((k - gap) / rows)) for k, gap in ((3, 1), (4, 2), (5, -2), (6, 0))]
    )
    assert found == pytest.approx([one, two, -two, 0])
    assert found[1] == -found[2]
    assert found[3] == 0
    # Of the 16 ways to give 1, 2, 2 and 0 rows a sign, all but the sums of 0 get as far as 1.
    assert sign_flip(found) == 1


def test_gaps_that_rounding_explains_are_0_and_others_keep_their_sizes():
    assert paired_differences([(0.9, 0.9), (0.8, 0.8)]) == [0, 0]
    assert paired_differences([(0.9, 0.9 + 1e-8), (0.8, 0.8 + 2e-8)]) == [0, 0]
    assert paired_differences([(0.5, 0.25), (0.25, 0.5), (0.5, 0.0)]) == [0.25, -0.25, 0.5]
    assert paired_differences([]) == []


def test_values_on_both_sides_of_a_rounding_border_are_equal():
    border = 0.123456785 * 10 - 1  # whose ninth digit is neither up nor down
    found = estimate([math.nextafter(border, 0), border, math.nextafter(border, 1)])
    assert found is not None
    assert (found.sd, found.low) == (0.0, None)


def test_the_sign_flip_test_counts_all_signs():
    differences = [0.3, 0.1, -0.2, 0.5, 0.4, 0.33]
    seen = abs(sum(differences)) - 1e-12
    flipped = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True))) >= seen
        for signs in itertools.product((-1, 1), repeat=6)
    ]
    assert sign_flip(differences) == sum(flipped) / 64
    smallest = {n: sign_flip([1.0] * n) for n in (3, 5, 6, 8)}
    assert smallest == {3: 0.25, 5: 0.0625, 6: 0.03125, 8: 0.0078125}
    assert sign_flip([0.0, 0.0]) == 1
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit, and are no different for that.
    assert sign_flip([0.1, 0.2, 0.3]) == 0.25


def test_holm_multiplies_the_smallest_p_value_by_all_the_next_by_one_fewer():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_so_many_seeds_find_such_gaps_in_four_of_five_cases():
    gaps = {4: 3.0, 6: 2.0, 9: 1.5, 17: 1.0}
    assert {seeds: round(smallest_gap(seeds), 1) for seeds in gaps} == gaps
    # By the noncentral t distribution: 0.789146, scipy 1.17.
    assert power(2.0, 6) == pytest.approx(0.789146, abs=1e-5)
    assert power(0.0, 6) == pytest.approx(0.05, abs=1e-9), "no gap: only false findings"
    assert math.isclose(power(smallest_gap(6), 6), 0.8, abs_tol=1e-3)
