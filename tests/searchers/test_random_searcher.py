"""Random search observes nothing."""

from __future__ import annotations

from tests.searchers.searching import Search


def test_random_params_do_not_depend_on_what_earlier_trials_achieved():
    good, bad = Search(searcher="random"), Search(searcher="random")
    for number in range(14):
        good.run(number / 14)
        bad.run(-number / 14, failure="error" if number % 2 else None)
    assert good.propose() == bad.propose()
