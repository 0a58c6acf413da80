"""The rungs and the work that `plan` expects, compared with a real sweep over closed-form curves."""

from __future__ import annotations

import pytest

from sweeps import SweepConfig
from sweeps.search.expectation import expect, outcome
from tests.conftest import SPACES, RunSweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

TRIALS, EVALUATIONS = 16, 8


def test_a_real_sweep_does_the_work_that_the_plan_expects_of_its_trials(run_sweep: RunSweep):
    results = run_sweep(str(SPACES / "curves.py"), num_trials=TRIALS, searcher="random", seed=1)
    trials = results.history.trials.values()
    heights = [float(trial.params["height"]) for trial in trials]
    ended = [trial.reports[-1].number for trial in trials]
    assert len(ended) == TRIALS
    # The curves never cross, so a trial's height is its standing at every rung.
    of_these = outcome(heights, SweepConfig(), EVALUATIONS)
    for rung in of_these.rungs:
        assert sum(number >= rung.evaluation for number in ended) == rung.trials
    assert sum(ended) == of_these.evaluations
    assert sum(trial.reports[-1].progress for trial in trials) == pytest.approx(of_these.work)
    # Before the heights are known, the plan says the mean: this sweep is no far outlier of it.
    expected = expect(TRIALS, SweepConfig(), EVALUATIONS)
    for known, mean in zip(of_these.rungs, expected.rungs, strict=True):
        assert abs(known.trials - mean.trials) <= 4
    assert of_these.work / TRIALS == pytest.approx(expected.work / TRIALS, abs=0.15)
