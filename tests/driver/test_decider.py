"""The decision on each report: what overrules the scheduler, and what is saved."""

from __future__ import annotations

import math
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.driver.decider import Decider
from sweeps.records import events as ev
from sweeps.report import LogEntry, Mode
from sweeps.schedulers.make_scheduler import SCHEDULERS
from tests.schedulers.fed import Fed, space_of

NAN = math.nan
MODES = pytest.mark.parametrize("mode", ["max", "min"])
EVERY_SCHEDULER = pytest.mark.parametrize("scheduler", SCHEDULERS)


@EVERY_SCHEDULER
def test_when_the_time_is_up_every_trial_stops_at_its_next_report(scheduler: Any):
    fed = Fed(scheduler=scheduler)
    assert not fed.stops("t001", 0.125, 0.5)
    assert fed.stops("t001", 0.25, 0.9, out_of_time=True)
    assert fed.stops("t002", 0.05, 0.9, out_of_time=True)


# Numbers that are none.


@MODES
@EVERY_SCHEDULER
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_a_trial_whose_metric_is_not_finite_stops_and_saves_nothing(
    mode: Mode, scheduler: Any, value: float
):
    fed = Fed(mode, scheduler=scheduler, resume_every=timedelta(0))
    fed.decide("t001", 0.125, 0.5)
    decided = fed.decide("t001", 0.25, value)
    assert (decided.decision, decided.save_best, decided.save_state) == ("stop", False, False)
    assert decided.diverged == f"eval_score is {value * fed.sign}"


def test_a_trial_whose_loss_is_not_finite_stops_however_good_it_looks():
    fed = Fed()
    metrics = {"eval_score": 0.9, "eval_loss": math.inf}
    assert fed.decide("t001", 0.125, 0.9, metrics=metrics).diverged == "eval_loss is inf"
    entries = (LogEntry(step=3, loss=NAN),)
    decided = fed.decide("t002", 0.125, 0.9, log_entries=entries)
    assert (decided.decision, decided.diverged) == ("stop", "the training loss is nan at step 3")


@MODES
@EVERY_SCHEDULER
def test_a_trial_without_a_value_at_its_first_report_goes_on_unless_it_stays_so(
    mode: Mode, scheduler: Any
):
    fed, same = (Fed(mode, scheduler=scheduler) for _ in range(2))
    decided = fed.decide("t001", 0.125, NAN)
    assert (decided.decision, decided.save_best, decided.diverged) == ("continue", False, None)
    assert fed.decide("t001", 0.25, 0.5).save_best
    fed.decide("t002", 0.125, NAN)
    assert fed.decide("t002", 0.25, NAN).diverged == "eval_score is nan"
    same.decide("t001", 0.25, 0.5)
    for value in (0.9, 0.8, 0.7, 0.1):  # the scheduler compares with values alone
        trial = f"s{value}"
        same.decide(trial, 0.125, value)
        fed.decide(trial, 0.125, value)
        assert fed.history.trials[trial].decisions[1].decision == (
            same.history.trials[trial].decisions[1].decision
        )
    again = SCHEDULERS[scheduler](space_of(mode), fed.config)
    assert Decider(fed.config, fed.history, again).contradiction is None


@EVERY_SCHEDULER
def test_a_trial_that_ends_itself_has_finished_and_owes_no_state(scheduler: Any):
    fed = Fed(scheduler=scheduler, resume_every=timedelta(0))
    for number in range(1, 5):
        fed.decide(f"t00{number}", 0.5, 0.9)
    decided = fed.decide("t005", 0.5, 0.1, ends_itself=True, out_of_time=True)
    assert (decided.decision, decided.save_state) == ("continue", False)
    again = SCHEDULERS[scheduler](space_of("max"), fed.config)
    assert Decider(fed.config, fed.history, again).contradiction is None


@MODES
def test_a_diverged_trial_does_not_change_what_others_are_compared_with(mode: Mode):
    with_nan, without = Fed(mode), Fed(mode)
    for trial in ("n001", "n002", "n003"):
        with_nan.decide(trial, 0.125, NAN)
        with_nan.decide(
            trial.replace("n", "m"), 0.125, 5.0, log_entries=(LogEntry(step=1, loss=NAN),)
        )
    for number, value in enumerate((0.5, 0.4, 0.6, 0.55, 0.1), 1):
        report = (f"t{number:03}", 0.125, value)
        assert with_nan.stops(*report) == without.stops(*report)


def test_a_scheduler_that_decides_otherwise_on_the_recorded_reports_is_noticed():
    fed = Fed(scheduler="fifo")
    for trial, value in (("t001", 0.9), ("t002", 0.1)):
        fed.decide(trial, 0.125, value)
    same, other = (
        Decider(fed.config, fed.history, SCHEDULERS[name](space_of("max"), fed.config))
        for name in ("fifo", "asha")
    )
    assert same.contradiction is None
    assert other.contradiction == (
        "on report 1 of t002, the scheduler decided continue; given the same reports, it now"
        " decides stop. Later decisions may differ from those of an uninterrupted sweep"
    )


def test_a_recorded_stop_that_a_scheduler_now_overrules_is_noticed_unless_the_time_was_up():
    fed = Fed(scheduler="asha")
    for trial, value, out_of_time in (("t001", 0.9, True), ("t002", 0.1, False)):
        fed.decide(trial, 0.125, value, out_of_time=out_of_time)
    fifo = SCHEDULERS["fifo"](space_of("max"), fed.config)
    assert Decider(fed.config, fed.history, fifo).contradiction == (
        "on report 1 of t002, the scheduler decided stop; given the same reports, it now decides"
        " continue. Later decisions may differ from those of an uninterrupted sweep"
    )


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_scheduler_contradicts_its_own_record(name: str):
    numbers, fed = random.Random(name), Fed(scheduler=name, num_trials=20)
    stopped = 0
    open_trials = [f"t{number:03}" for number in range(1, 21)]
    while open_trials:
        trial = numbers.choice(open_trials)
        known = fed.history.trials.get(trial)
        progress = (len(known.reports) + 1 if known else 1) / 8
        value = numbers.choice([numbers.random(), numbers.random(), NAN])
        decided = fed.decide(trial, progress, value, out_of_time=numbers.random() < 0.02)
        if decided.decision == "stop" or progress == 1:
            open_trials.remove(trial)
            stopped += decided.decision == "stop" and not decided.diverged
    assert stopped
    again = SCHEDULERS[name](space_of("max"), fed.config)
    assert Decider(fed.config, fed.history, again).contradiction is None


# What is saved.


@MODES
def test_the_best_is_saved_when_it_is_the_trial_s_best_so_far(mode: Mode):
    fed = Fed(mode, scheduler="fifo")
    values = (0.5, 0.4, 0.5, 0.6, 0.6, 0.7)
    saved = [fed.decide("t001", i / 8, v).save_best for i, v in enumerate(values, 1)]
    assert saved == [True, False, False, True, False, True]


@MODES
@pytest.mark.parametrize("keep", [1, 2])
def test_the_best_is_saved_only_among_the_best_few_trials_of_the_sweep(mode: Mode, keep: int):
    fed = Fed(mode, scheduler="fifo", keep_checkpoints=keep)
    for trial, value in (("t001", 0.9), ("t002", 0.8)):
        fed.decide(trial, 0.125, value)
    saved = {
        value: fed.decide(f"t{number:03}", 0.125, value).save_best
        for number, value in enumerate((0.7, 0.8, 0.85, 0.9, 0.95), 3)
    }
    # Equal trials: the earlier one is ahead.
    expected = {
        1: {0.7: False, 0.8: False, 0.85: False, 0.9: False, 0.95: True},
        2: {0.7: False, 0.8: False, 0.85: True, 0.9: True, 0.95: True},
    }
    assert saved == expected[keep]


def test_a_trial_without_a_value_takes_no_place_among_the_best_few():
    fed = Fed(keep_checkpoints=1)
    fed.decide("t001", 0.125, NAN)
    assert fed.decide("t002", 0.125, 0.1).save_best


def test_a_trial_that_is_stopped_at_its_best_report_is_saved_if_it_is_among_the_best_few():
    fed = Fed(keep_checkpoints=2, resume_every=timedelta(0))
    fed.decide("t001", 0.125, 0.9)
    decided = fed.decide("t002", 0.125, 0.5)
    assert (decided.decision, decided.save_best, decided.save_state) == ("stop", True, False)


def states(fed: Fed, *seconds: float, trial: str = "t001", attempt: int = 1) -> list[bool]:
    return [fed.decide(trial, 0.01, 0.5, train_s=s, attempt=attempt).save_state for s in seconds]


def test_a_state_is_saved_when_enough_training_time_has_passed_since_the_last():
    fed = Fed(resume_every=timedelta(seconds=60))
    assert states(fed, 30, 59.9, 60, 70, 119, 121, 180.9, 181) == [
        *(False, False, True, False, False, True, False, True)
    ]


def test_each_trial_has_its_own_time_since_its_last_state():
    fed = Fed(scheduler="fifo", resume_every=timedelta(seconds=60))
    assert states(fed, 61) == [True]
    assert states(fed, 30, 61, trial="t002") == [False, True]


def test_with_no_time_between_states_one_is_saved_at_every_evaluation_but_the_last():
    fed = Fed(resume_every=timedelta(0))
    saved = [fed.decide("t001", i / 8, 0.5).save_state for i in range(1, 9)]
    assert saved == [True] * 7 + [False]


def test_a_trial_that_is_told_to_stop_needs_no_state():
    fed = Fed(resume_every=timedelta(0))
    assert fed.decide("t001", 0.125, 0.5, out_of_time=True).save_state is False


def test_a_new_attempt_counts_its_own_time_since_its_last_state():
    fed = Fed(resume_every=timedelta(seconds=60))
    assert states(fed, 61) == [True]
    # The worker group is lost; the next one goes on from that state, its clock starts anew.
    assert states(fed, 30, 62, attempt=2) == [False, True]


# Any sweep.

ROUNDS = st.lists(
    st.tuples(st.integers(1, 6), st.floats(-1, 1) | st.sampled_from((0.0, 0.5, NAN))), max_size=40
)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    ROUNDS,
    st.sampled_from(("max", "min")),
    st.sampled_from(((0.125, 4.0), (0.25, 2.0), (0.1, 3.0))),
    st.sampled_from((1, 3)),
)
def test_decisions_follow_from_the_log_alone_and_stop_nobody_who_leads_or_is_at_an_end(
    rounds: list[tuple[int, float]], mode: Mode, rungs: tuple[float, float], keep: int
):
    config = {"first_rung": rungs[0], "reduction_factor": rungs[1], "keep_checkpoints": keep}
    fed, again = Fed(mode, **config), Fed(mode, **config)
    said: list[float] = []
    for number, value in rounds:
        trial = f"t{number:03}"
        known = fed.history.trials.get(trial)
        if known is not None and (
            any(d.decision == "stop" for d in known.decisions.values()) or len(known.reports) == 8
        ):
            continue
        progress = (len(known.reports) + 1 if known else 1) / 8
        decided = fed.decide(trial, progress, value)
        if known is None:
            again.history.apply(
                ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0)
            )
        repeated = again.take(fed.history.trials[trial].reports[-1])
        assert (repeated.decision, repeated.save_best) == (decided.decision, decided.save_best)
        if math.isnan(value):
            first = len(fed.history.trials[trial].reports) == 1
            assert (decided.diverged is None) == first
            assert (decided.decision, decided.save_best) == ("continue" if first else "stop", False)
            continue
        if decided.decision == "stop":
            assert rungs[0] <= progress < 1
            assert any(value < other for other in said)
        assert not (decided.save_best and sum(other > value for other in bests(fed, trial)) >= keep)
        said.append(value)


def bests(fed: Fed, but: str) -> list[float]:
    """The best values of all other trials."""
    values = [fed.history.value(t) for t in fed.history.trials.values() if t.id != but]
    return [value * fed.sign for value in values if value is not None]
