"""How many digits tell values apart."""

from __future__ import annotations

import pytest

from sweeps.answer.digits import digits_to_tell_apart


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
