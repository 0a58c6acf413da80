"""The scheduler that `--scheduler` names, and what is refused before a sweep takes it."""

from __future__ import annotations

from typing import Any

import pytest
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from sweeps import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.report import Mode, Report
from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.drawn import drawn_report, try_out
from sweeps.schedulers.make_scheduler import scheduler_maker
from tests.schedulers.fed import ROOT, space_of
from tests.schedulers.halving import Halving
from tests.schedulers.test_ray_scheduler import hyperband as hyperband


def other_metric(metric: str, mode: Mode) -> Any:
    return ASHAScheduler(metric="eval_loss", mode=mode)


def other_mode(metric: str, mode: Mode) -> Any:
    return MedianStoppingRule(time_attr="progress", metric=metric, mode="min")


def no_mode(metric: str, mode: Mode) -> Any:
    return ASHAScheduler(metric=metric)


def nothing(metric: str, mode: Mode) -> Any:
    return object()


def made(scheduler: str) -> Scheduler:
    return scheduler_maker(space_of("max"), SweepConfig(scheduler=scheduler), root=ROOT)()


@pytest.mark.parametrize(
    ("scheduler", "problem"),
    [
        ("pbt", "no scheduler named 'pbt'; available: asha, median, fifo or module:factory"),
        (
            "medain",
            "no scheduler named 'medain'; available: asha, median, fifo or module:factory; did you"
            " mean 'median'?",
        ),
        (
            "ray.tune.schedulers:PopulationBasedTraining",
            "calling it with metric='eval_score' and mode='max' raised TuneError: You must specify"
            " at least one of `hyperparam_mutations` or `custom_explore_fn` to use PBT.",
        ),
        (
            f"{__name__}:other_metric",
            "the scheduler's metric is 'eval_loss', but the space's metric is 'eval_score'; pass on"
            " the metric that the factory receives",
        ),
        (
            f"{__name__}:other_mode",
            "the scheduler's mode is 'min', but the space's mode is 'max'; pass on the mode that"
            " the factory receives",
        ),
        (
            f"{__name__}:no_mode",
            "the scheduler's mode is None, but the space's mode is 'max'; pass on the mode that the"
            " factory receives",
        ),
        (
            f"{__name__}:nothing",
            "returned object, which lacks rungs, on_report, resume_next; return a Ray scheduler, or"
            " an object with the methods of sweeps.schedulers.base.Scheduler",
        ),
    ],
)
def test_what_is_no_scheduler_of_the_space_is_refused(scheduler: str, problem: str):
    with pytest.raises(UserError) as raised:
        made(scheduler)
    assert str(raised.value) == f"scheduler = {scheduler!r}: {problem}"


def test_a_factory_of_ones_own_gets_metric_and_mode():
    halving = made("tests.schedulers.halving:Halving")
    worst, best = (drawn_report(t, 2, v, space_of("max")) for t, v in (("t1", 0.0), ("t2", 1.0)))
    assert [halving.on_report(worst), halving.on_report(best)] == ["pause", "pause"]
    for trial in ("t3", "t4"):
        halving.on_report(drawn_report(trial, 2, 0.5, space_of("max")))
    assert halving.resume_next() == "t2", "of the mode max"


def test_a_scheduler_that_cannot_serve_a_sweep_is_refused_when_the_sweep_is_asked_for():
    with pytest.raises(UserError, match="HyperBandScheduler is not supported: it pauses trials"):
        make_request(space_of("max"), SweepConfig(scheduler=f"{__name__}:hyperband"))


class Odd(Halving):
    """Halving that breaks the contract in one place."""

    def __init__(self, **answers: Any) -> None:
        super().__init__("eval_score", "max")
        self._answers = answers

    def rungs(self) -> Any:
        return self._answers.get("rungs", super().rungs())

    def on_report(self, report: Report) -> Any:
        return self._answers.get("decision", super().on_report(report))

    def resume_next(self) -> Any:
        return self._answers.get("resumed", super().resume_next())


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (
            {"rungs": [0.5, 0.25]},
            "rungs() = [0.5, 0.25]: must be ascending fractions between 0 and 1",
        ),
        (
            {"rungs": [0.5, 1.0]},
            "rungs() = [0.5, 1.0]: must be ascending fractions between 0 and 1",
        ),
        (
            {"decision": "halt"},
            "on_report() = 'halt': must be one of 'continue', 'stop', 'pause'",
        ),
        ({"resumed": "t9"}, "resume_next() = 't9': must be a paused trial"),
        ({"resumed": "t001"}, "resume_next() = 't001': must be a paused trial"),
    ],
)
def test_a_scheduler_that_breaks_the_contract_is_refused(answers: dict[str, Any], problem: str):
    try_out(Odd(), space_of("max"), "--scheduler odd:make")
    with pytest.raises(UserError) as raised:
        try_out(Odd(**answers), space_of("max"), "--scheduler odd:make")
    assert str(raised.value) == f"--scheduler odd:make: {problem}"
