"""Ray's schedulers as schedulers of a sweep, and those that are refused."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from ray.tune import schedulers as ray_schedulers

from sweeps import SweepConfig
from sweeps.errors import UserError
from sweeps.planning.forecast import outcome
from sweeps.report import Mode
from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.drawn import try_out
from sweeps.schedulers.make_scheduler import scheduler_maker
from tests.schedulers.fed import ROOT, Fed, space_of


def asha_with_brackets(metric: str, mode: Mode) -> Any:
    return ray_schedulers.ASHAScheduler(
        time_attr="training_iteration",
        metric=metric,
        mode=mode,
        max_t=8,
        grace_period=1,
        reduction_factor=2,
        brackets=3,
        stop_last_trials=False,
    )


def median(metric: str, mode: Mode) -> Any:
    return ray_schedulers.MedianStoppingRule(
        time_attr="progress",
        metric=metric,
        mode=mode,
        grace_period=0.25,
        min_samples_required=4,
        min_time_slice=1,
    )


def hyperband(metric: str, mode: Mode) -> Any:
    return ray_schedulers.HyperBandScheduler(metric=metric, mode=mode, max_t=8)


def population(metric: str, mode: Mode) -> Any:
    return ray_schedulers.PopulationBasedTraining(
        time_attr="training_iteration",
        metric=metric,
        mode=mode,
        hyperparam_mutations={"learning_rate": [1e-3, 1e-4]},
    )


def by_the_clock(metric: str, mode: Mode) -> Any:
    return ray_schedulers.MedianStoppingRule(metric=metric, mode=mode)


def made(factory: str, mode: Mode = "max", seed: int = 0) -> Scheduler:
    config = SweepConfig(scheduler=f"{__name__}:{factory}", seed=seed)
    return scheduler_maker(space_of(mode), config, root=ROOT)()


def course(scheduler: Scheduler) -> list[float]:
    """The trials at each rung, of values in a fixed order."""
    generator = random.Random(3)
    found = outcome([generator.random() for _ in range(40)], scheduler, space_of("max"))
    return [rung.trials for rung in found.rungs]


def test_rays_median_rule_stops_as_ray_says():
    fed = Fed(scheduler=f"{__name__}:median")
    for trial in ("t001", "t002", "t003", "t004"):
        assert not fed.stops(trial, 0.25, 0.5)
    assert not fed.stops("t005", 0.125, 0.1), "before its grace period"
    assert fed.stops("t005", 0.25, 0.1)


def test_brackets_are_drawn_from_the_sweeps_seed_and_the_global_generators_stay_as_they_were():
    np.random.seed(11)
    random.seed(11)
    first = course(made("asha_with_brackets"))
    after = (np.random.random(), random.random())
    np.random.seed(12)
    assert course(made("asha_with_brackets")) == first
    assert course(made("asha_with_brackets", seed=1)) != first
    np.random.seed(11)
    random.seed(11)
    assert (np.random.random(), random.random()) == after


def test_a_trial_that_ends_is_finished_though_its_last_value_is_the_worst():
    fed = Fed(scheduler=f"{__name__}:asha_with_brackets")
    for i in range(1, 9):
        assert not fed.stops("t001", i / 8, 0.9)
    assert not fed.stops("t002", 1.0, 0.1)


@pytest.mark.parametrize(
    ("factory", "problem"),
    [
        ("hyperband", "HyperBandScheduler is not supported: it pauses trials"),
        ("population", "PopulationBasedTraining is not supported: it uses Tune's controller"),
        (
            "by_the_clock",
            "MedianStoppingRule is not supported: it reads 'time_total_s' from a result, which"
            " contains only 'progress', 'training_iteration', 'eval_score'",
        ),
    ],
)
def test_a_ray_scheduler_that_needs_more_than_reports_is_refused_on_drawn_values(
    factory: str, problem: str
):
    with pytest.raises(UserError) as raised:
        try_out(made(factory), space_of("max"), f"scheduler = '{__name__}:{factory}'")
    assert str(raised.value).startswith(f"scheduler = '{__name__}:{factory}': {problem}")
