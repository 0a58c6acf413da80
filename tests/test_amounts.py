"""How messages write amounts."""

from __future__ import annotations

import pytest

from sweeps.amounts import counted, size


def test_only_one_is_in_the_singular() -> None:
    assert [counted(n, "trial") for n in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]


@pytest.mark.parametrize(
    ("count", "written"), [(0, "0 kB"), (388_000, "388 kB"), (5e8, "500.0 MB"), (8e10, "80.0 GB")]
)
def test_bytes_have_the_unit_that_suits_them(count: float, written: str) -> None:
    assert size(count) == written
