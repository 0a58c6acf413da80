"""What a search space may say, and the whole text of what is wrong with one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from ray import tune

from sweeps import CausalLM, SearchSpace
from sweeps.errors import UserError
from sweeps.space.arguments import argument_fields
from sweeps.space.checks import check_space
from sweeps.space.search_space import OWNED, valid_keys

FIELDS = {
    "learning_rate": False,
    "weight_decay": False,
    "warmup_steps": False,
    "num_train_epochs": False,
    "lr_scheduler_kwargs": True,
    "per_device_train_batch_size": False,
    "gradient_accumulation_steps": False,
    "eval_steps": False,
    "output_dir": False,
}
WHERE = "search_spaces/mine.py: SEARCH_SPACE"


def build(args: Any, *, height: float = 0.5, data: Any = None) -> None: ...


def make(**changes: Any) -> SearchSpace:
    whole: dict[str, Any] = {
        "build_trainer": build,
        "metric": "eval_score",
        "mode": "max",
        "tuned": {"learning_rate": tune.loguniform(1e-5, 1e-3)},
    }
    return SearchSpace(**whole | changes)


def message(**changes: Any) -> str:
    with pytest.raises(UserError) as raised:
        check_space(make(**changes), FIELDS, WHERE)
    return str(raised.value)


def test_a_space_without_problems_passes():
    check_space(
        make(
            tuned={
                "learning_rate": tune.loguniform(1e-5, 1e-3),
                "height": tune.choice([0.1, 0.2]),
                "total_train_batch_size": tune.choice([16, 32]),
                "lr_scheduler_kwargs.num_cycles": tune.uniform(0.3, 0.7),
            },
            fixed={"weight_decay": 0.01, "max_rows_per_device": 8},
            first_params=[
                {
                    "learning_rate": 1e-4,
                    "height": 0.2,
                    "total_train_batch_size": 16,
                    "lr_scheduler_kwargs.num_cycles": 0.3,
                }
            ],
        ),
        FIELDS,
        WHERE,
    )


def test_all_problems_of_a_space_stand_in_one_message():
    text = message(
        tuned={"lerning_rate": tune.loguniform(1e-5, 1e-3), "weight_decay": 0.1},
        fixed={"eval_steps": 50, "warmup_steps": tune.uniform(0.0, 0.1)},
    )
    assert text == (
        "search_spaces/mine.py: SEARCH_SPACE has 4 problems\n"
        "  tuned['lerning_rate']: no such TrainingArguments field or builder keyword; did you mean"
        " 'learning_rate'?\n"
        "  fixed['eval_steps']: set by sweeps from evals_per_trial; remove it\n"
        "  tuned['weight_decay'] = 0.1: not a Tune domain; a value shared by all trials belongs in"
        " fixed\n"
        "  fixed['warmup_steps'] = uniform(0.0, 0.1): a domain belongs in tuned"
    )


ONE_PROBLEM: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt argument is answered with the nearest one": (
        {"fixed": {"wieght_decay": 0.1}},
        "fixed['wieght_decay']: no such TrainingArguments field or builder keyword;"
        " did you mean 'weight_decay'?",
    ),
    "a misspelt builder keyword is answered with the nearest one": (
        {"tuned": {"hieght": tune.uniform(0.0, 1.0)}},
        "tuned['hieght']: no such TrainingArguments field or builder keyword;"
        " did you mean 'height'?",
    ),
    "a key that is near nothing gets no suggestion": (
        {"fixed": {"zzz": 1}},
        "fixed['zzz']: no such TrainingArguments field or builder keyword",
    ),
    "a dotted key of no argument is unknown": (
        {"fixed": {"zzz.num_cycles": 1}},
        "fixed['zzz.num_cycles']: no such TrainingArguments field or builder keyword",
    ),
    "the reserved name data cannot be set": (
        {"fixed": {"data": 1}},
        "fixed['data']: no such TrainingArguments field or builder keyword",
    ),
    "a plain value in tuned": (
        {"tuned": {"learning_rate": 3e-5}},
        "tuned['learning_rate'] = 3e-05: not a Tune domain;"
        " a value shared by all trials belongs in fixed",
    ),
    "a domain in fixed": (
        {"fixed": {"weight_decay": tune.quniform(0.0, 0.5, 0.25)}},
        "fixed['weight_decay'] = quniform(0.0, 0.5, 0.25): a domain belongs in tuned",
    ),
    "a field that sweeps owns, in tuned": (
        {"tuned": {"eval_steps": tune.choice([1, 2])}},
        "tuned['eval_steps']: set by sweeps from evals_per_trial; remove it",
    ),
    "a field that sweeps owns, in fixed": (
        {"fixed": {"output_dir": "out"}},
        "fixed['output_dir']: checkpoints go to the sweep's folder; remove it",
    ),
    "the rows of a device in tuned": (
        {
            "tuned": {"max_rows_per_device": tune.choice([8])},
            "fixed": {"total_train_batch_size": 16},
        },
        "tuned['max_rows_per_device']: belongs in fixed, because it does not change the"
        " optimisation",
    ),
    "the rows of a device without a total": (
        {"fixed": {"max_rows_per_device": 8}},
        "'max_rows_per_device' requires 'total_train_batch_size' in tuned or fixed",
    ),
    "a total batch beside one of its parts": (
        {"fixed": {"total_train_batch_size": 16, "gradient_accumulation_steps": 2}},
        "'gradient_accumulation_steps' is computed from 'total_train_batch_size'; keep only one of"
        " them",
    ),
    "a key in both parts": (
        {"fixed": {"learning_rate": 1e-4}},
        "'learning_rate' is in both tuned and fixed; keep one",
    ),
    "nothing to search": (
        {"tuned": {}},
        "tuned is empty: there is nothing to search; add a domain",
    ),
    "an unknown mode": ({"mode": "maximize"}, "mode = 'maximize': must be 'max' or 'min'"),
    "no evaluation": (
        {"evals_per_trial": 0},
        "evals_per_trial = 0: must be at least 1",
    ),
    "a broken number of evaluations": (
        {"evals_per_trial": 2.5},
        "evals_per_trial = 2.5: must be an integer",
    ),
    "an empty range": (
        {"tuned": {"weight_decay": tune.uniform(0.2, 0.1)}},
        "tuned['weight_decay']: the range 0.2 to 0.1 is reversed; write uniform(0.1, 0.2)",
    ),
    "an integer range whose end is left out": (
        {"tuned": {"num_train_epochs": tune.randint(3, 3)}},
        "tuned['num_train_epochs']: the range 3 to 3 is empty; randint excludes its upper bound; a"
        " single value belongs in fixed",
    ),
    "an empty choice": (
        {"tuned": {"weight_decay": tune.choice([])}},
        "tuned['weight_decay']: a choice needs at least one value",
    ),
    "choices that no log can keep": (
        {"tuned": {"weight_decay": tune.choice([object, 0.1])}},
        "tuned['weight_decay']: the choices must be strings, finite numbers, booleans, None, or"
        " lists of these",
    ),
    "a domain without bounds": (
        {"tuned": {"weight_decay": tune.randn(0.0, 1.0)}},
        "tuned['weight_decay']: sweeps cannot search this domain; use one of uniform, quniform,"
        " loguniform, qloguniform, randint, qrandint, lograndint, qlograndint, choice",
    ),
    "a function as domain": (
        {"tuned": {"weight_decay": tune.sample_from(lambda _: 0.1)}},
        "tuned['weight_decay']: sweeps cannot search this domain; use one of uniform, quniform,"
        " loguniform, qloguniform, randint, qrandint, lograndint, qlograndint, choice",
    ),
    "first params without a tuned key": (
        {"first_params": [{}]},
        "first_params[0]: no value for 'learning_rate'",
    ),
    "first params with a key that is not tuned": (
        {"first_params": [{"learning_rate": 1e-4, "weight_decay": 0.1}]},
        "first_params[0]: 'weight_decay': not tuned",
    ),
    "first params outside their domain": (
        {"first_params": [{"learning_rate": 1e-4}, {"learning_rate": 0.1}]},
        "first_params[1]['learning_rate'] = 0.1: outside the domain loguniform(1e-05, 0.001)",
    ),
}


@pytest.mark.parametrize("what", ONE_PROBLEM)
def test_one_problem_stands_in_one_line_behind_its_place(what: str):
    changes, problem = ONE_PROBLEM[what]
    assert message(**changes) == f"{WHERE}: {problem}"


def test_a_builder_keyword_that_is_also_an_argument_must_be_renamed():
    def clashing(args: Any, *, learning_rate: float = 0.1) -> None: ...

    assert message(build_trainer=clashing) == (
        f"{WHERE}: build_trainer: its keyword 'learning_rate' is also a TrainingArguments field;"
        " rename it"
    )


def test_a_builder_that_cannot_be_called_is_a_problem_of_the_space():
    assert message(build_trainer=3) == f"{WHERE}: build_trainer = 3: must be a function"


STREAMED = CausalLM(model="a/b", dataset="c/d", stream=True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"tuned": {"block_tokens": tune.choice([16, 32]), "lora_rank": tune.choice([4, 8])}},
            "tuned['block_tokens']: stream=True prepares the data once for all trials, but"
            " this data depends on 'block_tokens'; put it in fixed, or set stream=False",
        ),
        (
            {"tuned": {"stream": tune.choice([True, False])}},
            "tuned['stream']: a worker group cannot turn streaming on or off between trials; put"
            " it in fixed",
        ),
        (
            {"fixed": {"train_sampling_strategy": "group_by_length"}},
            "fixed['train_sampling_strategy']: stream=True already determines the order of the"
            " rows; remove this key",
        ),
    ],
    ids=["read by prepare", "stream itself", "an order of its own"],
)
def test_what_a_stream_cannot_vary_is_refused(changes: dict[str, Any], problem: str):
    space = make(build_trainer=STREAMED, metric="eval_loss", mode="min", **changes)
    fields = FIELDS | {"train_sampling_strategy": False}
    with pytest.raises(UserError) as raised:
        check_space(space, fields, WHERE)
    assert str(raised.value) == f"{WHERE}: {problem}"
    if "stream" not in space.tuned:
        check_space(
            dataclasses.replace(space, fixed={**space.fixed, "stream": False}), fields, WHERE
        )


def test_a_function_as_domain_in_fixed_is_a_problem_of_the_space():
    text = message(fixed={"weight_decay": tune.sample_from(lambda _: 0.1)})
    assert text.startswith(f"{WHERE}: fixed['weight_decay'] = ")
    assert text.endswith(": a domain belongs in tuned")


@pytest.mark.parametrize("key", ["learning_rate.x", "lr_scheduler_kwargs."])
def test_a_dotted_key_needs_an_argument_that_holds_a_dict_and_a_name_in_it(key: str):
    assert f"fixed['{key}']" in message(fixed={key: 1})


@pytest.mark.parametrize(
    ("domain", "value"),
    [(tune.quniform(0.0, 1.0, 0.25), 0.3), (tune.qrandint(0, 8, 2), 3)],
    ids=["floats", "integers"],
)
def test_first_params_between_the_steps_of_a_quantized_domain_are_outside_it(
    domain: Any, value: Any
):
    text = message(tuned={"weight_decay": domain}, first_params=[{"weight_decay": value}])
    assert f"first_params[0]['weight_decay'] = {value}: outside " in text


def test_an_infinite_choice_is_refused_because_json_has_no_infinity():
    assert "the choices must be" in message(tuned={"weight_decay": tune.choice([0.1, math.inf])})


@pytest.mark.parametrize("key", OWNED)
def test_an_owned_field_is_an_argument_of_hf_and_is_refused_with_its_reason(key: str):
    fields = argument_fields(build)
    assert key in fields
    assert key not in valid_keys(make(), fields)
    with pytest.raises(UserError) as raised:
        check_space(make(fixed={key: 1}), fields, WHERE)
    assert str(raised.value) == f"{WHERE}: fixed['{key}']: {OWNED[key]}; remove it"


def test_a_space_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().metric = "eval_loss"  # type: ignore[misc]
