"""How messages list names."""

from __future__ import annotations

import pytest

from sweeps.naming import some


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        ("", ""),
        ("a", "a"),
        ("ab", "a and b"),
        ("abc", "a, b and c"),
        ("abcde", "a, b, c and 2 more"),
    ],
)
def test_of_many_names_the_first_are_listed(names: str, listed: str) -> None:
    assert some(list(names), 3, " and ") == listed
    assert some(list(names), 3) == (listed if len(names) > 3 else ", ".join(names))
