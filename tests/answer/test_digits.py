"""How many digits tell values apart."""

from __future__ import annotations

import pytest

from sweeps.answer.digits import digits_to_tell_apart, percent, span


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        ([], 4),
        ([0.9, 0.8, None], 4),
        ([0.9, 0.9], 4),
        ([0.12345, 0.12346], 5),
        ([1.2345678, 1.2345679, 0.5], 8),
        ([0.3, 0.1 + 0.2], 4),
        ([0.12345, 0.12346, 0.3, 0.1 + 0.2], 5),
        ([float("nan"), 0.5], 4),
    ],
)
def test_as_few_digits_as_show_every_difference_that_32_bits_hold(
    values: list[float | None], digits: int
):
    assert digits_to_tell_apart(values, 4) == digits


def test_an_interval_has_the_digits_that_tell_its_ends_apart():
    assert span(0.5, 0.75) == "0.5 to 0.75"
    assert span(0.51841, 0.51843) == "0.51841 to 0.51843"
    assert span(0.5, 0.123456, 6) == "0.5 to 0.123456"


def test_only_a_whole_trial_is_at_100_percent():
    shares = (0.0, 0.125, 0.5, 0.994, 0.996, 0.99996, 1.0)
    assert [percent(share) for share in shares] == [
        *("0%", "12%", "50%", "99%", "99.6%", "99.996%", "100%")
    ]
