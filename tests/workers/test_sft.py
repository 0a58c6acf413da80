"""A space over TRL's `SFTConfig`: checked like any other, and really trained."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from ray import tune

from sweeps import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.planning.samples import built_arguments, sample_params
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.space.arguments import Devices
from sweeps.space.loading import load_space
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.signals import Signals
from sweeps.workers.training import train
from tests.conftest import SPACES

SFT = str(SPACES / "sft.py")


def test_fields_of_sft_config_are_tuned_and_checked_like_any_other():
    request = make_request(SFT, SweepConfig())
    samples = sample_params(request.space, request.config, request.loaded.root)
    assert len(samples) == 5
    for params in samples:
        assert ("packing_strategy" in params) == params["packing"]
        built = built_arguments(request.space, request.config, params)
        assert built["learning_rate"] == params["learning_rate"]
        assert built.get("packing", False) == params["packing"]


@pytest.mark.parametrize(
    ("tuned", "problem"),
    [
        (
            {"max_length": tune.uniform(8.0, 64.0)},
            "tuned['max_length']: uniform(8.0, 64.0) yields fractions, but the value must be an"
            " integer or None; use randint(8, 65)",
        ),
        (
            {"max_seq_length": tune.choice([8, 16])},
            "tuned['max_seq_length']: no longer an argument; use max_length",
        ),
        (
            {"packing": tune.choice(["yes", "no"])},
            "tuned['packing']: the choice 'yes' must be True or False\n"
            "tuned['packing']: the choice 'no' must be True or False",
        ),
    ],
)
def test_what_is_wrong_with_a_field_of_sft_config_is_said(tuned: dict, problem: str):
    space = dataclasses.replace(load_space(SFT).space, tuned=tuned, first_params=[])
    with pytest.raises(UserError) as raised:
        make_request(space, SweepConfig())
    assert "\n".join(raised.value.problems) == problem


def test_a_trial_of_sft_trainer_reports_at_its_evaluations(tmp_path: Path):
    space = load_space(SFT).space
    reports: list[Report] = []
    train(
        space,
        Job(trial="t001", attempt=1, params=space.first_params[0], seed=0, checkpoint=None),
        devices=Devices(workers=1, gpu=False, bf16=False),
        folder=SweepFolder(tmp_path),
        link=Link(
            report=reports.append,
            answer=lambda _: Reply("continue", save_best=False, save_state=False),
            announce=lambda _: None,
            name_step=lambda _: None,
        ),
        signals=Signals(),
        fits=lambda: True,
    )
    assert [(report.number, report.progress) for report in reports] == [(1, 0.5), (2, 1.0)]
    losses = [report.metrics["eval_loss"] for report in reports]
    assert all(map(math.isfinite, losses))
    assert losses[1] < losses[0], "it learns"
