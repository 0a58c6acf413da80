"""What `plan` expects of a sweep, compared with real ones over closed-form curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
import ray
from ray import tune

from sweeps import SweepConfig, when
from sweeps.cli.plan_command import plan
from sweeps.planning.forecast import expect, outcome
from sweeps.schedulers.asha import ASHA
from sweeps.space.loading import load_space
from tests.conftest import SPACES, RunSweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TRIALS = 16


def test_a_real_sweep_does_the_work_that_the_plan_expects_of_its_trials(run_sweep: RunSweep):
    results = run_sweep(str(SPACES / "curves.py"), num_trials=TRIALS, searcher="random", seed=1)
    trials = results.history.trials.values()
    heights = [float(trial.params["height"]) for trial in trials]
    ended = [trial.reports[-1].number for trial in trials]
    assert len(ended) == TRIALS
    # The curves never cross, so a trial's height is its standing at every rung.
    space = load_space(str(SPACES / "curves.py")).space
    of_these = outcome(heights, ASHA(space, SweepConfig()), space)
    for rung in of_these.rungs:
        assert sum(number >= rung.evaluation for number in ended) == rung.trials
    assert sum(ended) == of_these.evaluations
    assert sum(trial.reports[-1].progress for trial in trials) == pytest.approx(of_these.work)
    # Before the heights are known, the plan says the mean: this sweep is no far outlier of it.
    expected = expect(lambda: ASHA(space, SweepConfig()), space, TRIALS)
    for known, mean in zip(of_these.rungs, expected.rungs, strict=True):
        assert abs(known.trials - mean.trials) <= 4
    assert of_these.work / TRIALS == pytest.approx(expected.work / TRIALS, abs=0.15)


def test_a_finite_conditional_space_ends_its_sweep_when_it_is_used_up(run_sweep: RunSweep):
    def not_both(values: Mapping[str, Any]) -> bool:  # in here: workers have no `tests` to import
        return not (values["height"] == 0.5 and values.get("at") == 0.75)

    tuned = {
        "height": tune.choice([0.2, 0.5]),
        "shape": tune.choice(["rises", "falls"]),
        "at": when({"shape": "falls"}, tune.choice([0.25, 0.75])),
    }
    space = replace(
        load_space(str(SPACES / "curves.py")).space,
        tuned=tuned,
        first_params=[],
        constraints=[not_both],
    )
    results = run_sweep(space, num_trials=32, scheduler="fifo")
    assert results.status == "finished"
    params = [tuple(trial.params.values()) for trial in results.history.trials.values()]
    assert sorted(params) == [
        (0.2, "falls", 0.25),
        (0.2, "falls", 0.75),
        (0.2, "rises"),
        (0.5, "falls", 0.25),
        (0.5, "rises"),
    ]


def test_a_plan_with_an_address_is_laid_out_on_the_nodes_of_that_cluster(
    ray_cluster: None, capsys: pytest.CaptureFixture[str]
):
    config = {field.name: field.default for field in fields(SweepConfig)}
    # This process is connected already: the address is not asked again.
    config |= {"address": "127.0.0.1:6379", "tiny": True}
    plan("bert_yelp", None, **config, as_json=True)
    found = json.loads(capsys.readouterr().out)["layout"]
    resources = ray.cluster_resources()
    assert [node["cpus"] for node in found["nodes"]] == [resources["CPU"]]
    assert found["groups"] == min(resources["CPU"], 32)
