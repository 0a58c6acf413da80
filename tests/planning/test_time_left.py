"""How long a sweep will still take, from the smoke run on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.planning.forecast import Expectation, expect
from sweeps.planning.time_left import time_left, trial_s, whole_trial_s
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.report import Report
from sweeps.schedulers.make_scheduler import scheduler_maker
from tests.schedulers.fed import space_of

MEASURED = ev.SmokeMeasured(
    steps=100, step_s=0.5, batches=10, batch_s=0.1, metrics={"eval_score": 0.1}
)
WHOLE_S = 100 * 0.5 + 4 * 10 * 0.1


def history(*events: ev.Event) -> History:
    found = History("eval_score", "max")
    for event in (ev.SweepStarted(sweep="s", time=1000.0), *events):
        found.apply(event)
    return found


def begun(trial: str, at: float = 1000.0) -> list[ev.Event]:
    return [
        ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0),
        ev.JobStarted(trial=trial, attempt=1, group=1, devices=2, time=at),
    ]


def report(trial: str, progress: float, train_s: float) -> ev.Reported:
    return ev.Reported(
        report=Report(
            trial=trial,
            number=1,
            step=round(progress * 100),
            max_steps=100,
            epoch=progress,
            metrics={"eval_score": 0.5},
            train_s=train_s,
        )
    )


def ended(trial: str, device_s: float, status: Any = "finished") -> list[ev.Event]:
    return [
        ev.AttemptEnded(trial=trial, attempt=1, outcome="done", train_s=1.0, device_s=device_s),
        ev.TrialEnded(trial=trial, status=status),
    ]


def expected_of(config: SweepConfig) -> Expectation:
    space = space_of("max", evaluations=4)
    return expect(scheduler_maker(space, config, root=Path()), space, config.num_trials)


def left(found: History, groups: int = 1, now: float = 1000.0, **config: Any) -> float | None:
    asked = SweepConfig(**{"num_trials": 4, "scheduler": "fifo", **config})
    expected = expected_of(asked)
    return time_left(found, asked, expected, groups=groups, evaluations=4, now=now)


def test_nothing_is_said_before_anything_is_measured():
    assert left(history(*begun("t001"))) is None


def test_the_smoke_run_s_times_hold_until_a_trial_has_reported():
    assert trial_s(MEASURED, 4) == WHOLE_S
    assert left(history(MEASURED)) == pytest.approx(4 * WHOLE_S)
    assert left(history(MEASURED), groups=2) == pytest.approx(2 * WHOLE_S)
    half = [*begun("t001"), report("t001", 0.5, train_s=100.0)]
    assert left(history(MEASURED, *half)) == pytest.approx(3.5 * 200.0)


def test_an_evaluation_of_unknown_length_counts_for_nothing():
    assert trial_s(replace(MEASURED, batches=None), 4) == 50.0


def test_a_trial_with_fewer_steps_than_evaluations_evaluates_once_a_step():
    assert trial_s(replace(MEASURED, steps=3), 4) == pytest.approx(3 * 0.5 + 3 * 10 * 0.1)


def test_ended_trials_count_with_all_that_they_took():
    done = [*begun("t001"), report("t001", 1.0, train_s=90.0), *ended("t001", device_s=200.0)]
    assert left(history(MEASURED, *done)) == pytest.approx(3 * 100.0), "of two devices"


def test_no_more_groups_are_counted_than_trials_are_left():
    done = [e for t in ("t001", "t002", "t003") for e in begun(t)]
    done += [e for t in ("t001", "t002", "t003") for e in ended(t, 1.0)]
    assert left(history(MEASURED, *done), groups=4) == pytest.approx(WHOLE_S)


def test_asha_is_expected_to_stop_trials():
    work = expected_of(SweepConfig(num_trials=16)).work
    assert work < 10
    found = left(history(MEASURED), num_trials=16, scheduler="asha")
    assert found == pytest.approx(work * WHOLE_S)


def test_it_is_never_more_than_the_time_budget_leaves():
    found = history(MEASURED, *begun("t001"))
    assert left(history(MEASURED), time_budget=timedelta(seconds=60), now=1020.0) == 60.0
    assert left(found, time_budget=timedelta(seconds=60), now=1020.0) == 40.0
    assert left(found, time_budget=timedelta(seconds=60), now=1090.0) == 0.0


def test_a_paused_trial_does_as_much_as_trials_do_on_average():
    """Of four trials that pause at a quarter, two go on to a half and one to its end."""
    config = {"scheduler": "tests.schedulers.halving:Halving"}
    each = (2 * 0.25 + 0.5 + 1) / 4
    paused = [
        *begun("t001"),
        report("t001", 0.25, train_s=25.0),
        ev.Decided(trial="t001", number=1, decision="pause", save_best=False, save_state=True),
        ev.CheckpointSaved(trial="t001", number=1, kind="state", path="p", sha256="0"),
        ev.AttemptEnded(trial="t001", attempt=1, outcome="paused", train_s=25.0, device_s=50.0),
    ]
    found = history(MEASURED, *paused)
    assert found.trials["t001"].status == "paused"
    assert left(found, **config) == pytest.approx((3 * each + each - 0.25) * 100.0)
    further = history(MEASURED, *paused, report("t001", 0.5, train_s=25.0))
    further.trials["t001"].status = "paused"
    assert left(further, **config) == pytest.approx(3 * each * 50.0)


def test_attempts_on_shares_of_a_gpu_count_the_time_of_their_groups():
    alone = [
        ev.TrialSuggested(trial="t001", params={}, origin="searcher", seed=0),
        ev.JobStarted(trial="t001", attempt=1, group=1, devices=1),
        report("t001", 0.5, 50.0),
        ev.AttemptEnded(
            trial="t001", attempt=1, outcome="interrupted", train_s=50.0, device_s=50.0
        ),
    ]
    shared = ev.JobStarted(trial="t001", attempt=2, group=2, devices=0.25)
    assert whole_trial_s(history(*alone), 4) == 100
    assert whole_trial_s(history(*alone, shared), 4) == 100
