"""ASHA fed by hand, and beside Ray's own `ASHAScheduler`; and FIFO."""

from __future__ import annotations

import math
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler

from sweeps.config import SweepConfig
from sweeps.report import Mode, Report
from sweeps.schedulers.asha import ASHA
from tests.schedulers.fed import STEPS, Fed, space_of

MODES = pytest.mark.parametrize("mode", ["max", "min"])


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
    rungs = ASHA(space_of("max"), SweepConfig(**config)).rungs()
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


def rays_decisions(reports: list[Report], mode: Mode, first: float, factor: float) -> list[str]:
    asha = ASHAScheduler(
        time_attr="progress",
        metric="eval_score",
        mode=mode,
        max_t=1.0,
        grace_period=first,
        reduction_factor=factor,
        stop_last_trials=False,
    )
    decisions, added = [], set()
    for report in reports:
        trial: Any = SimpleNamespace(trial_id=report.trial)
        if report.trial not in added:
            added.add(report.trial)
            asha.on_trial_add(None, trial)
        result = {"progress": report.progress + 1e-9, **report.metrics}
        decisions.append(asha.on_trial_result(None, trial, result).lower())
    return decisions


@pytest.mark.parametrize(
    ("first", "factor"), [(0.125, 4.0), (0.1, 3.0), (0.25, 2.0), (0.3, 1.7), (0.01, 6.0)]
)
@MODES
def test_it_decides_as_rays_asha(first: float, factor: float, mode: Mode):
    draw, sign = Random(f"{first} {factor} {mode}"), 1 if mode == "max" else -1
    rung = math.ceil(first * STEPS)
    reports: list[Report] = []
    values: list[float] = []

    def add(trial: str, step: int, value: float) -> None:
        whole: dict[str, Any] = {"number": 1, "max_steps": STEPS, "epoch": 1.0, "train_s": 1.0}
        metrics = {"eval_score": sign * value}
        reports.append(Report(trial=trial, step=step, metrics=metrics, **whole))

    for number in range(100):
        value = draw.uniform(-1, 1)
        if values:
            limit = float(np.nanpercentile(values, (1 - 1 / factor) * 100))
            near = [math.nextafter(limit, -math.inf), limit, math.nextafter(limit, math.inf)]
            value = draw.choice([value, round(value, 1), value * 1e-300, math.nan, *near])
        values.append(value)
        add(f"t{number:03}", rung, value)
        for step in sorted(draw.sample(range(rung + 1, STEPS + 1), 2)):
            add(f"t{number:03}", step, round(draw.uniform(-1, 1), 1))
    config = SweepConfig(first_rung=first, reduction_factor=factor)
    ours = ASHA(space_of(mode), config)
    decisions = [ours.on_report(report) for report in reports]
    assert decisions == rays_decisions(reports, mode, first, factor)


@MODES
def test_fifo_stops_no_trial(mode: Mode):
    fed = Fed(mode, scheduler="fifo")
    for progress in (0.125, 0.5, 1.0):
        assert not fed.stops("t001", progress, 0.9)
        assert not fed.stops("t002", progress, 0.1)


@pytest.mark.parametrize(
    ("first", "factor", "rungs"),
    [
        (0.125, 4.0, (0.125, 0.5)),
        (0.125, 2.0, (0.125, 0.25, 0.5)),
        (0.25, 4.0, (0.25,)),
        (0.5, 3.0, (0.5,)),
    ],
)
def test_rungs_are_the_first_times_powers_of_the_factor_below_the_end(
    first: float, factor: float, rungs: tuple[float, ...]
):
    config = SweepConfig(first_rung=first, reduction_factor=factor)
    assert ASHA(space_of("max"), config).rungs() == rungs
