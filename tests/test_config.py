"""What `SweepConfig` refuses, in whole sentences, and what it makes of the rest."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.errors import UserError


def message(**values: Any) -> str:
    with pytest.raises(UserError) as raised:
        SweepConfig(**values)
    return str(raised.value)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"num_trials": 0}, "num_trials = 0: must be at least 1"),
        ({"repeats": 0}, "repeats = 0: must be at least 1"),
        (
            {"num_trials": 10, "repeats": 4},
            "num_trials = 10: must be a multiple of repeats = 4; nearest: 8 or 12",
        ),
        (
            {"num_trials": 3, "repeats": 4},
            "num_trials = 3: must be a multiple of repeats = 4; nearest: 4",
        ),
        ({"workers_per_trial": 0}, "workers_per_trial = 0: must be at least 1"),
        ({"cpus_per_worker": 0}, "cpus_per_worker = 0: must be at least 1"),
        ({"max_concurrent": 0}, "max_concurrent = 0: must be at least 1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints = 0: must be at least 1"),
        ({"gpus_per_worker": -1}, "gpus_per_worker = -1: must be at least 0"),
        ({"seed": -1}, "seed = -1: must be at least 0"),
        ({"first_rung": 0.0}, "first_rung = 0.0: must be between 0 and 1"),
        ({"first_rung": 1.0}, "first_rung = 1.0: must be between 0 and 1"),
        ({"first_rung": math.nan}, "first_rung = nan: must be between 0 and 1"),
        ({"reduction_factor": 1.0}, "reduction_factor = 1.0: must be a finite number above 1"),
        ({"resume_every": timedelta(-1)}, "resume_every = -1 day, 0:00:00: must not be negative"),
        ({"time_budget": timedelta(0)}, "time_budget = 0:00:00: must be greater than 0"),
        (
            {"gpus_per_worker": 0.5, "workers_per_trial": 2},
            "gpus_per_worker = 0.5: must be a whole number, or below 1 with workers_per_trial = 1"
            " (NCCL allows one rank per GPU)",
        ),
        (
            {"gpus_per_worker": 1.5},
            "gpus_per_worker = 1.5: must be a whole number, or below 1 with workers_per_trial = 1"
            " (NCCL allows one rank per GPU)",
        ),
        (
            {"storage": "file:///shared/sweeps"},
            "storage = 'file:///shared/sweeps': pass the folder itself, without file://",
        ),
    ],
)
def test_a_value_that_cannot_be_is_answered_with_the_rule(values: dict[str, Any], problem: str):
    assert message(**values) == f"the configuration: {problem}"


def test_all_that_is_wrong_with_a_configuration_stands_in_one_message():
    assert message(num_trials=0, first_rung=2.0, reduction_factor=0.5) == (
        "the configuration has 3 problems\n"
        "  num_trials = 0: must be at least 1\n"
        "  first_rung = 2.0: must be between 0 and 1\n"
        "  reduction_factor = 0.5: must be a finite number above 1"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reduction_factor", math.nan),
        ("gpus_per_worker", math.nan),
        ("gpus_per_worker", math.inf),
    ],
)
def test_a_number_that_is_none_gets_a_message(name: str, value: float):
    assert message(**{name: value}).startswith(f"the configuration: {name} = {value}: ")


def test_the_least_values_are_allowed():
    SweepConfig(num_trials=1, resume_every=timedelta(0), gpus_per_worker=0, seed=0)
    SweepConfig(gpus_per_worker=0.5, workers_per_trial=1)
    SweepConfig(gpus_per_worker=2.0, workers_per_trial=4)


def test_a_configuration_is_kept_as_json_with_its_durations_in_seconds():
    config = SweepConfig(time_budget=timedelta(hours=2))
    kept = json.loads(json.dumps(config.in_json(), allow_nan=False))
    assert list(kept) == [field.name for field in fields(SweepConfig)]
    assert (kept["time_budget"], kept["resume_every"], kept["num_trials"]) == (7200.0, 60.0, 32)


def test_the_storage_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert SweepConfig().storage_folder == tmp_path / "results"
    assert SweepConfig(storage="s3://bucket/sweeps").storage_folder == tmp_path / "results"
    assert SweepConfig(storage="~/sweeps").storage_folder == tmp_path / "home" / "sweeps"
