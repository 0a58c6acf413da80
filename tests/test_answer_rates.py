"""The rates of `scripts/answer_rates.py`, by fewer sweeps, and that the docs have its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.answer_rates import called_better, told_apart

DOCS = (Path(__file__).parents[1] / "docs/confirm.md").read_text()


def documented(*cells: object) -> list[float]:
    """The shares in the line of a table that begins with these cells."""
    begins = re.escape(f"| {' | '.join(map(str, cells))} | ")
    (line,) = re.findall(rf"^{begins}([\d.]+ %.*)$", DOCS, re.M)
    return [float(share) / 100 for share in re.findall(r"([\d.]+) %", line)]


def test_few_of_many_equally_good_trials_lose_their_mark_but_often_one_of_them():
    share, one, held = told_apart(24, 1000, 40)
    of_trials, of_sweeps, of_intervals = documented(24)
    assert share == pytest.approx(of_trials, abs=0.02)
    assert one == pytest.approx(of_sweeps, abs=0.15)
    assert held == pytest.approx(of_intervals, abs=0.2)


@pytest.mark.parametrize(("suits", "cell"), [(0.0, "0"), (1.7, "1.7")])
def test_a_winner_that_suits_the_rows_is_called_better_more_often(suits: float, cell: str):
    better, above = called_better(8, 450, suits, 120)
    of_verdicts, of_intervals = documented(8, 450, cell)
    assert better == pytest.approx(of_verdicts, abs=0.1)
    assert above == pytest.approx(of_intervals, abs=0.06)
