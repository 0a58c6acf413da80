"""The decision on each report: the Decider fed by hand, with Ray's own ASHA inside."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.config import SweepConfig
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.report import LogEntry, Mode, Report
from sweeps.schedulers.asha import Decider

NAN = math.nan
MODES = pytest.mark.parametrize("mode", ["max", "min"])
STEPS = 1000


class Fed:
    """A decider and its history; values are said so that more is better, whatever the mode."""

    def __init__(self, mode: Mode = "max", **config: Any) -> None:
        self.config = SweepConfig(**config)
        self.history = History("eval_score", mode)
        self.decider = Decider(self.config, self.history)
        self.sign = 1 if mode == "max" else -1

    def decide(
        self,
        trial: str,
        progress: float,
        value: float,
        *,
        out_of_time: bool = False,
        **changes: Any,
    ) -> ev.Decided:
        """The decision on a trial's next report, as the sweep process takes it."""
        if trial not in self.history.trials:
            self.history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher"))
        whole: dict[str, Any] = {
            "trial": trial,
            "number": len(self.history.trials[trial].reports) + 1,
            "step": round(progress * STEPS),
            "max_steps": STEPS,
            "epoch": progress,
            "metrics": {"eval_score": value * self.sign},
            "train_s": 1.0,
        }
        return self.take(Report(**whole | changes), out_of_time)

    def take(self, report: Report, out_of_time: bool = False) -> ev.Decided:
        self.history.apply(ev.Reported(report=report))
        decided = self.decider.decide(report, out_of_time=out_of_time)
        assert (decided.trial, decided.number) == (report.trial, report.number)
        self.history.apply(decided)
        return decided

    def stops(self, trial: str, progress: float, value: float, **changes: Any) -> bool:
        return self.decide(trial, progress, value, **changes).stop


# Who is stopped.


@MODES
def test_the_first_trial_is_never_stopped(mode: Mode):
    fed = Fed(mode)
    assert not any(fed.stops("t001", i / 8, -i) for i in range(1, 9))


@MODES
def test_a_trial_that_is_behind_at_a_rung_is_stopped(mode: Mode):
    fed = Fed(mode)
    assert not fed.stops("t001", 0.125, 0.5)
    assert fed.stops("t002", 0.125, 0.4)
    assert not fed.stops("t003", 0.125, 0.6)


@MODES
def test_a_trial_that_is_equal_at_a_rung_goes_on(mode: Mode):
    fed = Fed(mode)
    for trial in ("t001", "t002", "t003"):
        assert not fed.stops(trial, 0.125, 0.5)


@MODES
def test_only_the_best_share_of_the_reduction_factor_goes_on(mode: Mode):
    fed = Fed(mode, reduction_factor=4)
    for number, value in enumerate((0.5, 0.6, 0.7, 0.8, 0.9), 1):
        assert not fed.stops(f"t{number:03}", 0.125, value)
    # 0.8 is what three of four have not got over.
    assert fed.stops("t006", 0.125, 0.79)
    assert not fed.stops("t007", 0.125, 0.85)


@MODES
def test_a_trial_is_compared_at_rungs_only_and_once_at_each(mode: Mode):
    fed = Fed(mode)
    for progress in (0.125, 0.5):
        fed.decide("t001", progress, 0.9)
    assert not fed.stops("t002", 0.124, 0.1), "before the first rung"
    assert not fed.stops("t002", 0.125, 0.95)
    assert not fed.stops("t002", 0.25, 0.1), "between two rungs"
    assert not fed.stops("t002", 0.499, 0.1)
    assert fed.stops("t002", 0.5, 0.1)


@MODES
def test_a_report_that_comes_a_little_after_a_rung_counts_there(mode: Mode):
    fed = Fed(mode)
    assert not fed.stops("t001", 0.137, 0.5)
    assert fed.stops("t002", 0.131, 0.4)
    assert not fed.stops("t003", 0.626, 0.4), "it passed the first rung unseen, as the best at half"


@MODES
def test_a_trial_at_its_end_is_finished_whatever_a_rung_there_would_say(mode: Mode):
    # Rungs at a quarter, a half and, for Ray, at the end.
    fed = Fed(mode, first_rung=0.25, reduction_factor=2)
    for progress in (0.25, 0.5, 1.0):
        assert not fed.stops("t001", progress, 0.9)
        assert not fed.stops("t002", progress, 0.9 if progress < 1 else 0.1)


@MODES
def test_a_trial_whose_only_report_is_at_its_end_is_finished(mode: Mode):
    fed = Fed(mode)
    fed.decide("t001", 0.125, 0.9)
    assert not fed.stops("t002", 1.0, 0.1)
    assert not fed.stops("t003", 1.0, 0.0, out_of_time=True)


@pytest.mark.parametrize(
    ("first", "factor"),
    [(0.125, 4.0), (0.1, 3.0), (0.0625, 2.0), (0.2, 5.0), (0.5, 1.5)],
)
def test_trials_are_compared_at_the_rungs_that_the_plan_shows(first: float, factor: float):
    config: dict[str, Any] = {"first_rung": first, "reduction_factor": factor}
    rungs = SweepConfig(**config).rungs
    fed = Fed(**config)
    below = 0.0
    for number, rung in enumerate(rungs, 1):
        step = math.ceil(rung * STEPS - 1e-6)
        fed.decide("best", rung, 1.0, step=step)
        trial = f"t{number:03}"
        if below:
            assert not fed.stops(trial, below, 2.0, step=math.ceil(below * STEPS - 1e-6))
        assert not fed.stops(trial, rung, 0.0, step=step - 1)
        assert fed.stops(trial, rung, 0.0, step=step)
        below = rung


@MODES
def test_fifo_stops_no_trial(mode: Mode):
    fed = Fed(mode, scheduler="fifo")
    for progress in (0.125, 0.5, 1.0):
        assert not fed.stops("t001", progress, 0.9)
        assert not fed.stops("t002", progress, 0.1)


@pytest.mark.parametrize("scheduler", ["asha", "fifo"])
def test_when_the_time_is_up_every_trial_stops_at_its_next_report(scheduler: Any):
    fed = Fed(scheduler=scheduler)
    assert not fed.stops("t001", 0.125, 0.5)
    assert fed.stops("t001", 0.25, 0.9, out_of_time=True)
    assert fed.stops("t002", 0.05, 0.9, out_of_time=True)


# Numbers that are none.


@MODES
@pytest.mark.parametrize("scheduler", ["asha", "fifo"])
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_a_trial_whose_metric_is_not_finite_stops_and_saves_nothing(
    mode: Mode, scheduler: Any, value: float
):
    fed = Fed(mode, scheduler=scheduler, resume_every=timedelta(0))
    decided = fed.decide("t001", 0.125, value)
    assert (decided.stop, decided.save_best, decided.save_state) == (True, False, False)
    assert decided.diverged == f"eval_score is {value * fed.sign}"


def test_a_trial_whose_loss_is_not_finite_stops_however_good_it_looks():
    fed = Fed()
    metrics = {"eval_score": 0.9, "eval_loss": math.inf}
    assert fed.decide("t001", 0.125, 0.9, metrics=metrics).diverged == "eval_loss is inf"
    entries = (LogEntry(step=3, loss=NAN),)
    decided = fed.decide("t002", 0.125, 0.9, log_entries=entries)
    assert (decided.stop, decided.diverged) == (True, "the training loss is nan at step 3")


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
    assert (decided.stop, decided.save_best, decided.save_state) == (True, True, False)


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
            any(d.stop for d in known.decisions.values()) or len(known.reports) == 8
        ):
            continue
        progress = (len(known.reports) + 1 if known else 1) / 8
        decided = fed.decide(trial, progress, value)
        if known is None:
            again.history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher"))
        repeated = again.take(fed.history.trials[trial].reports[-1])
        assert (repeated.stop, repeated.save_best) == (decided.stop, decided.save_best)
        if math.isnan(value):
            assert decided.diverged
            continue
        if decided.stop:
            assert rungs[0] <= progress < 1
            assert any(value < other for other in said)
        assert not (decided.save_best and sum(other > value for other in bests(fed, trial)) >= keep)
        said.append(value)


def bests(fed: Fed, but: str) -> list[float]:
    """The best values of all other trials."""
    values = [fed.history.value(t) for t in fed.history.trials.values() if t.id != but]
    return [value * fed.sign for value in values if value is not None]
