"""What `SweepConfig` refuses, in whole sentences, and what it makes of the rest."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
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


WRONG = {
    int: ("3", 2.5, True, [1]),
    float: ("0.5", True, [0.5]),
    str: (3, True, ["x"], ""),
    bool: (1, "no", "True"),
    timedelta: (90, "90", "soon", "99999999999d", True),
    Sequence: ("mlflow", 3, [3]),
}
"""Values that a field of this type does not take."""


def test_every_field_refuses_values_of_other_types():
    for name, kind in typing.get_type_hints(SweepConfig).items():
        parts = {typing.get_origin(part) or part for part in typing.get_args(kind) or (kind,)}
        optional = type(None) in parts
        (meant,) = WRONG.keys() & (parts if typing.get_origin(kind) is not Sequence else {Sequence})
        for value in (*WRONG[meant], {}, object(), *(() if optional else (None,))):
            said = message(**{name: value})
            assert said.startswith(f"the configuration: {name}"), said
            assert "\n" not in said, said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("num_trials", "3", "num_trials = '3': must be an integer; write 3 without quotes"),
        ("num_trials", None, "num_trials = None: must be an integer"),
        ("first_rung", "nan", "first_rung = 'nan': must be a number"),
        ("cpus_per_worker", 0.5, "cpus_per_worker = 0.5: must be an integer or None"),
        (
            "trackers",
            "mlflow",
            "trackers = 'mlflow': must be a list of strings; write ['mlflow']",
        ),
        ("smoke", "no", "smoke = 'no': must be True or False"),
        (
            "time_budget",
            90,
            "time_budget = 90: must be a duration ('2h') or None; write '90s' for seconds",
        ),
        (
            "time_budget",
            "90",
            "time_budget: '90' has no unit; write 90s, 90m, 90h or 90d",
        ),
        ("warm_start", "", "warm_start = '': must not be empty"),
    ],
)
def test_a_value_of_another_type_is_answered_with_what_is_meant(name: str, value: Any, said: str):
    assert message(**{name: value}) == f"the configuration: {said}"


def test_a_duration_a_path_and_numbers_of_numpy_are_taken_as_they_are_meant():
    config = SweepConfig(
        time_budget="2h",  # type: ignore[arg-type]
        storage=Path("there"),  # type: ignore[arg-type]
        num_trials=np.int64(3),  # type: ignore[arg-type]
        first_rung=np.float32(0.5),
    )
    assert (config.time_budget, config.storage) == (timedelta(hours=2), "there")
    assert json.loads(json.dumps(config.in_json()))["num_trials"] == 3
    assert type(config.first_rung) is float


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
