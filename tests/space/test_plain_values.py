"""Choices that JSON has no form for: the log keeps a plain one, trials get what was written."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray import tune
from transformers import SchedulerType, TrainingArguments

from sweeps import SearchSpace, SweepConfig, when
from sweeps.driver.requests.make_sweep_record import space_record
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.space.arguments import Devices, training_arguments, trial_values
from sweeps.space.domains import describe
from sweeps.space.plain_values import in_json
from sweeps.space.search_space import builder_variants


class Kind(Enum):
    SMALL = "s"
    LARGE = "l"


def build(args: TrainingArguments, *, kind: Kind = Kind.SMALL, of: Any = None, n: int = 1): ...


def space(tuned: dict[str, Any], **more: Any) -> SearchSpace:
    return SearchSpace(build_trainer=build, metric="eval_loss", mode="min", tuned=tuned, **more)


CASES: list[tuple[str, list[Any], list[Any], list[Any]]] = [
    # key, choices, as the log keeps them, as trials get them
    ("n", list(np.arange(1, 4)), [1, 2, 3], [1, 2, 3]),
    ("learning_rate", list(np.array([1e-4, 1e-3])), [1e-4, 1e-3], [1e-4, 1e-3]),
    ("learning_rate", list(np.float32([0.5, 0.25])), [0.5, 0.25], [0.5, 0.25]),
    ("of", [np.bool_(True), np.str_("a")], [True, "a"], [True, "a"]),
    ("of", [(1, 2), (3,)], [[1, 2], [3]], [(1, 2), (3,)]),
    ("of", [[(1, 2)], None], [[[1, 2]], None], [[(1, 2)], None]),
    ("kind", list(Kind), ["SMALL", "LARGE"], list(Kind)),
    (
        "lr_scheduler_type",
        [SchedulerType.LINEAR, SchedulerType.COSINE],
        ["linear", "cosine"],
        [SchedulerType.LINEAR, SchedulerType.COSINE],
    ),
]


@pytest.mark.parametrize(("key", "choices", "kept", "meant"), CASES)
def test_a_choice_is_plain_in_the_log_and_as_it_was_written_in_a_trial(
    key: str, choices: list[Any], kept: list[Any], meant: list[Any], tmp_path: Path
) -> None:
    made = space({key: tune.choice(choices)})
    request = make_request(made, SweepConfig())
    assert space_record(request).domains[key] == f"choice({kept!r})"
    assert describe(made.tuned[key]) == f"choice({kept!r})"
    travelled = pickle.loads(pickle.dumps(request.space))
    for plain, value in zip(kept, meant, strict=True):
        params = json.loads(json.dumps({key: plain}))
        arguments, keywords = trial_values(travelled, params)
        values = {**arguments, **keywords}
        assert values == {key: value}
        assert type(values[key]) is type(value)
        training_arguments(
            travelled,
            params,
            devices=Devices(workers=1, gpu=False, bf16=False),
            output_dir=tmp_path,
            seed=0,
        )


def test_an_array_is_a_choice_of_lists() -> None:
    made = space({"of": tune.choice([np.arange(2), np.arange(3)])})
    make_request(made, SweepConfig())
    assert describe(made.tuned["of"]) == "choice([[0, 1], [0, 1, 2]])"
    _, values = trial_values(made, {"of": [0, 1]})
    assert isinstance(values["of"], np.ndarray)


@pytest.mark.parametrize(
    ("domain", "kept"),
    [
        (tune.randint(np.int64(1), np.int64(4)), "randint(1, 4)"),
        (tune.uniform(np.float64(0.5), np.float64(1)), "uniform(0.5, 1.0)"),
        (tune.qrandint(np.int32(2), np.int32(8), np.int32(2)), "qrandint(2, 8, 2)"),
        (tune.loguniform(*np.logspace(-3, -1, 2)), "loguniform(0.001, 0.1)"),
    ],
)
def test_bounds_of_numpy_are_numbers(domain: Any, kept: str) -> None:
    made = space({"of": domain})
    assert space_record(make_request(made, SweepConfig())).domains["of"] == kept


def test_fixed_numbers_of_numpy_are_numbers() -> None:
    made = space({"of": tune.uniform(0, 1)}, fixed={"n": np.int64(3), "max_steps": np.int32(4)})
    make_request(made, SweepConfig())
    assert made.fixed == {"n": 3, "max_steps": 4}
    assert type(made.fixed["n"]) is int


def test_conditions_and_first_params_may_name_a_member_or_a_tuple() -> None:
    tuned = {
        "kind": tune.choice(list(Kind)),
        "of": when({"kind": Kind.LARGE}, tune.choice([(1, 2), (3, 4)])),
    }
    first = [{"kind": Kind.LARGE, "of": (1, 2)}, {"kind": "SMALL"}]
    made = space(tuned, first_params=first)
    make_request(made, SweepConfig())
    assert made.first_params == [{"kind": "LARGE", "of": [1, 2]}, {"kind": "SMALL"}]
    fixed = space({"n": when({"kind": Kind.LARGE}, tune.randint(1, 3))}, fixed={"kind": Kind.LARGE})
    assert make_request(fixed, SweepConfig()).space.fixed == {"kind": Kind.LARGE}


@pytest.mark.parametrize("text", ["LARGE", "l"])
@pytest.mark.parametrize(
    "tuned", [{"kind": tune.choice(list(Kind))}, {"n": tune.randint(1, 3)}], ids=["tuned", "not"]
)
def test_the_command_line_names_a_member(text: str, tuned: dict[str, Any]) -> None:
    made = space(tuned | {"of": tune.uniform(0, 1)})
    request = make_request(made, SweepConfig(), assignments=[f"kind={text}"])
    assert request.space.fixed == {"kind": Kind.LARGE}
    assert space_record(request).fixed == {"kind": "LARGE"}


def test_a_builder_is_checked_and_prepared_with_what_its_trials_get() -> None:
    @dataclass(frozen=True)
    class Builder:
        kind: Kind = Kind.SMALL

        def __call__(self, args: TrainingArguments): ...

        def check(self) -> None:
            assert isinstance(self.kind, Kind)

    made = replace(space({"kind": tune.choice(list(Kind))}), build_trainer=Builder())
    assert make_request(made, SweepConfig()).space.builder.values == {"kind": Kind.SMALL}
    assert builder_variants(made) == [{"kind": Kind.SMALL}, {"kind": Kind.LARGE}]


def test_a_grid_in_fixed_is_refused_with_that_word() -> None:
    made = space({"n": tune.randint(1, 3)}, fixed={"of": tune.grid_search([1, 2])})
    with pytest.raises(UserError) as raised:
        make_request(made, SweepConfig())
    assert str(raised.value) == (
        "the search space: fixed['of'] = {'grid_search': [1, 2]}: not a single value; put"
        " choice([1, 2]) in tuned"
    )


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        ([1, "a", None, True], [1, "a", None, True]),
        ((1, 2), [1, 2]),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (Path("a"), "PosixPath('a')"),
    ],
)
def test_json_keeps_a_value_or_how_python_shows_it(value: Any, kept: Any):
    assert in_json(value) == kept


def test_json_keeps_no_infinity_inside_a_value_either():
    json.dumps(in_json({"learning_rate": math.inf}), allow_nan=False)
