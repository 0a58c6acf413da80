"""Optuna's TPE: it learns, and is the same for the same seed and history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from sweeps.report import Mode
from tests.searchers.searching import FIRST, TUNED, Search
from tests.searchers.test_candidates import CONDITIONAL, EVERY


def score(params: Mapping[str, Any]) -> float:
    """Best at x = 0.3 and a learning rate of 1e-4."""
    return -((params["x"] - 0.3) ** 2) - (math.log10(params["learning_rate"]) + 4) ** 2


def searched(trials: int, **options: Any) -> Search:
    search = Search(**options)
    sign = -1 if search.space.mode == "min" else 1
    for _ in range(trials):
        trial = search.begin()
        search.report(trial, sign * score(trial.params))
        search.end(trial)
    return search


@EVERY
def test_a_search_that_is_interrupted_anywhere_goes_on_as_if_unbroken(searcher: str):
    whole = Search(first_params=FIRST, searcher=searcher, seed=3)
    cuts = []
    for number in range(16):
        cut = len(whole.events)
        trial = whole.begin()
        cuts.append((cut, trial.params))
        for value in (score(trial.params) - 1, score(trial.params)):
            whole.report(trial, math.nan if number == 5 else value)
        whole.end(trial, {5: "diverged", 7: "error"}.get(number))
    for cut, params in cuts:
        resumed = Search(first_params=FIRST, searcher=searcher, seed=3)
        resumed.put(*whole.events[:cut])
        assert resumed.propose() == params


@EVERY
def test_proposing_twice_gives_the_same_params(searcher: str):
    search = searched(12, searcher=searcher)
    assert search.propose() == search.propose()


@EVERY
def test_another_seed_gives_other_params(searcher: str):
    proposed = [Search(searcher=searcher, seed=seed).propose() for seed in range(5)]
    assert len({repr(params) for params in proposed}) == 5


@pytest.mark.parametrize("mode", ["max", "min"])
def test_optuna_learns_from_earlier_trials_in_both_modes(mode: Mode):
    def last(searcher: str) -> float:
        search = searched(40, mode=mode, searcher=searcher, seed=1)
        return sum([score(trial.params) for trial in search.history.trials.values()][-15:])

    assert last("optuna") > last("random") / 2, "scores are negative: half as far away, or less"


def test_trials_that_wait_or_run_are_accepted():
    search = searched(12)
    search.start()
    search.report(search.begin(), 0.5)
    assert set(search.propose() or {}) == set(TUNED)


def test_optuna_learns_within_a_condition():
    """Good: sgd with a learning rate near 0.01; the two learning rates are searched apart."""

    def score(params: Mapping[str, Any]) -> float:
        return float(params["optim"] == "sgd" and 0.005 < params["learning_rate"] < 0.02)

    def hits(searcher: str) -> float:
        search = Search(CONDITIONAL, searcher=searcher, seed=1)
        scores = []
        for _ in range(60):
            trial = search.begin()
            scores.append(score(trial.params))
            search.report(trial, scores[-1])
            search.end(trial)
        return sum(scores[-30:])

    assert hits("optuna") > 2 * hits("random")
