"""What Optuna observes of a params set: its mean, or why it has none."""

from __future__ import annotations

import math
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from sweeps.records.trial import Trial
from sweeps.searchers.optuna_space import OptunaSpace
from tests.searchers.searching import FIRST, TUNED, Search
from tests.searchers.test_candidates import CONDITIONAL


def observed(search: Search, trial: Trial) -> FrozenTrial:
    return OptunaSpace(search.space).observed(search.history.set_of(trial))


def test_optuna_sees_the_true_conditional_space():
    first = {"optim": "sgd", "learning_rate": 0.01, "weight_decay": 0.1}
    search = Search(CONDITIONAL, first_params=[first])
    trial = observed(search, search.run(0.5))
    assert trial.params == {
        "optim": 1,
        "learning_rate when optim = 'sgd'": 0.01,
        "weight_decay": 0.1,
    }
    assert set(trial.distributions) == set(trial.params)


def test_optuna_observes_the_best_report_of_a_trial_and_not_its_last():
    search = Search()
    trial = observed(search, search.run(0.5, 0.9, 0.7))
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.9)
    lowest = Search(mode="min")
    assert observed(lowest, lowest.run(0.5, 0.1, 0.7)).value == 0.1


@pytest.mark.parametrize("failure", ["diverged", "out_of_memory"])
@pytest.mark.parametrize("values", [(), (0.5,)])
def test_params_that_cannot_be_trained_are_pruned_without_a_value(
    failure: str, values: tuple[float, ...]
):
    search = Search()
    trial = observed(search, search.run(*values, failure=failure))
    assert (trial.state, trial.value) == (TrialState.PRUNED, None)


@pytest.mark.parametrize("failure", ["error", "stalled"])
def test_a_trial_that_failed_by_accident_has_its_best_report_or_is_failed(failure: str):
    search = Search()
    trial = observed(search, search.run(0.5, 0.4, failure=failure))
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.5)
    assert observed(search, search.run(failure=failure)).state == TrialState.FAIL
    assert observed(search, search.run(math.nan, failure=failure)).state == TrialState.FAIL


def test_repeats_are_one_trial_with_their_mean_when_the_last_has_ended():
    search = Search(repeats=3)
    first = search.run(0.5, 0.9, 0.7)
    running = search.begin(of=first)
    assert observed(search, first).state == TrialState.RUNNING, "one runs, one is not there yet"
    search.report(running, 0.4)
    search.end(running, None)
    assert observed(search, first).state == TrialState.RUNNING
    search.end(search.begin(of=first), "error")
    assert (observed(search, first).state, observed(search, first).value) == (
        TrialState.COMPLETE,
        pytest.approx(0.65),
    )


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        (("diverged", "out_of_memory"), TrialState.PRUNED),
        (("diverged", "error"), TrialState.PRUNED),
        (("error", "stalled"), TrialState.FAIL),
    ],
)
def test_repeats_that_all_failed_are_a_failed_trial(failures: Any, state: TrialState):
    search = Search(repeats=2)
    first = search.run(failure=failures[0])
    search.end(search.begin(of=first), failures[1])
    assert (observed(search, first).state, observed(search, first).value) == (state, None)


def test_a_trial_that_has_not_ended_is_running_whatever_it_has_reported():
    search = Search()
    waiting, running = search.start(), search.begin()
    search.report(running, 0.5)
    for trial in (waiting, running):
        trial = observed(search, trial)
        assert (trial.state, trial.value) == (TrialState.RUNNING, None)


def test_the_study_of_any_history_accepts_all_its_trials():
    search = Search(first_params=FIRST)
    for failure in (None, "error", "stalled", "diverged", "out_of_memory"):
        for values in ((), (0.5,), (math.nan,), (math.inf, 0.2)):
            search.run(*values, failure=failure)
    search.start()
    search.report(search.begin(), math.nan)
    assert set(search.propose() or {}) == set(TUNED)
