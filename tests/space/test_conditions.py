"""Conditional domains and constraints: what is active when, and what the command line changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from ray import cloudpickle, tune
from transformers import TrainingArguments

from sweeps import SearchSpace, SweepConfig, when
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.space import domains
from sweeps.space.conditions import active_branches, branches, choose, describe_tunable
from sweeps.space.constraints import broken_constraint
from sweeps.space.search_space import fixed_values

ADAMW, SGD = {"optim": "adamw_torch"}, {"optim": "sgd"}
TUNED = {
    "nesterov": when({**SGD, "frozen": True}, tune.choice([1, 2])),
    "learning_rate": [
        when(ADAMW, tune.loguniform(1e-5, 1e-4)),
        when(SGD, tune.loguniform(1e-3, 1e-1)),
    ],
    "optim": tune.choice(["adamw_torch", "sgd"]),
    "frozen": when(SGD, tune.choice([True, False])),
    "rank": when(SGD, when({"frozen": False}, tune.randint(4, 9))),
}
FIRST = {"optim": "adamw_torch", "learning_rate": 3e-5}


def build(
    args: TrainingArguments, *, nesterov: int = 0, frozen: bool = False, rank: int = 4
) -> None: ...


def small_steps(values: Mapping[str, Any]) -> bool:
    return bool(values["learning_rate"] < 0.05)


def make(**changes: Any) -> SearchSpace:
    whole: dict[str, Any] = {
        "build_trainer": build,
        "metric": "eval_loss",
        "mode": "min",
        "tuned": TUNED,
        "first_params": [FIRST],
    }
    return SearchSpace(**whole | changes)


def drawn(count: int, tuned: Any = None, fixed: Any = None) -> list[dict[str, Any]]:
    generator, ordered = Random(1), branches(TUNED if tuned is None else tuned)
    return [
        choose(ordered, fixed or {}, lambda branch: domains.draw(branch.domain, generator))
        for _ in range(count)
    ]


def test_a_domain_stands_behind_all_that_its_condition_asks_for():
    keys = [branch.key for branch in branches(TUNED)]
    assert keys.index("optim") < keys.index("learning_rate")
    assert keys.index("optim") < keys.index("frozen") < keys.index("rank")
    assert keys.index("frozen") < keys.index("nesterov")


def test_params_have_a_value_for_what_is_active_and_for_nothing_else():
    for params in drawn(200):
        keys = {"optim", "learning_rate"}
        if params["optim"] == "sgd":
            keys |= {"frozen", "nesterov" if params["frozen"] else "rank"}
            assert 1e-3 <= params["learning_rate"] <= 1e-1
        else:
            assert 1e-5 <= params["learning_rate"] <= 1e-4
        assert set(params) == keys
        assert set(active_branches(branches(TUNED), {}, params)) == keys
    assert {tuple(sorted(params)) for params in drawn(200)} == {
        ("learning_rate", "optim"),
        ("frozen", "learning_rate", "nesterov", "optim"),
        ("frozen", "learning_rate", "optim", "rank"),
    }


def test_a_condition_may_name_a_fixed_value_and_an_inactive_key_has_none():
    tuned = {"rank": when({"frozen": True}, tune.randint(4, 9))}
    assert drawn(1, tuned, {"frozen": False}) == [{}]
    assert set(drawn(1, tuned, {"frozen": True})[0]) == {"rank"}
    chain = {
        "optim": tune.choice(["sgd"]),
        "frozen": when(ADAMW, tune.choice([True])),
        "rank": when({"frozen": True}, tune.randint(4, 9)),
    }
    assert drawn(1, chain) == [{"optim": "sgd"}]


def test_one_is_not_true():
    tuned = {"rank": when({"frozen": True}, tune.randint(4, 9))}
    assert drawn(1, tuned, {"frozen": 1}) == [{}]


def test_a_conditional_domain_is_shown_with_its_condition():
    assert describe_tunable(TUNED["learning_rate"]) == (
        "loguniform(1e-05, 0.0001) when optim = 'adamw_torch';"
        " loguniform(0.001, 0.1) when optim = 'sgd'"
    )
    assert describe_tunable(TUNED["rank"]) == "randint(4, 9) when optim = 'sgd' and frozen = False"
    assert describe_tunable(TUNED["optim"]) == "choice(['adamw_torch', 'sgd'])"


def test_a_conditional_space_with_constraints_is_the_same_after_pickling():
    space = make(constraints=[small_steps])
    copy = cloudpickle.loads(cloudpickle.dumps(space))
    assert {key: describe_tunable(value) for key, value in copy.tuned.items()} == {
        key: describe_tunable(value) for key, value in TUNED.items()
    }
    assert broken_constraint(copy, {"learning_rate": 0.1}) == "small_steps"


# The command line.


def requested(*assignments: str, **changes: Any) -> tuple[dict[str, str], list[Any], list[str]]:
    request = make_request(make(**changes), SweepConfig(), assignments=assignments)
    shown = {key: describe_tunable(declared) for key, declared in request.space.tuned.items()}
    return shown, list(request.space.first_params), request.lines


def test_fixing_what_a_condition_asks_for_leaves_out_what_is_never_active_then():
    tuned, first, lines = requested("optim=adamw_torch")
    assert tuned == {"learning_rate": "loguniform(1e-05, 0.0001) when optim = 'adamw_torch'"}
    assert first == [{"learning_rate": 3e-5}]
    assert lines == [
        "nesterov when optim = 'sgd' and frozen = True is dropped: it can no longer be active",
        "learning_rate when optim = 'sgd' is dropped: it can no longer be active",
        "frozen when optim = 'sgd' is dropped: it can no longer be active",
        "rank when optim = 'sgd' and frozen = False is dropped: it can no longer be active",
        "first_params[0] no longer has 'optim': it is now fixed",
    ]


def test_a_narrower_choice_leaves_out_what_is_never_active_then():
    tuned, first, lines = requested("optim=choice(['sgd'])")
    assert tuned["learning_rate"] == "loguniform(0.001, 0.1) when optim = 'sgd'"
    assert first == []
    assert lines == [
        "learning_rate when optim = 'adamw_torch' is dropped: it can no longer be active",
        "first_params[0] is dropped: it has no allowed value for 'learning_rate', 'optim'",
    ]


@dataclass(frozen=True, kw_only=True)
class Shrinks:
    """A builder whose tiny form has another model."""

    model: str = "base"

    def tiny(self) -> Any:
        return replace(self, model="tiny")

    def __call__(self, args: TrainingArguments) -> None: ...


OF_MODEL = {
    "model": tune.choice(["base", "large"]),
    "learning_rate": [
        when({"model": "base"}, tune.loguniform(1e-5, 1e-4)),
        when({"model": "large"}, tune.loguniform(1e-6, 1e-5)),
    ],
}
LOST = [
    "--tiny overrides model",
    "learning_rate when model = 'base' is dropped: it can no longer be active",
    "learning_rate when model = 'large' is dropped: it can no longer be active",
]


def test_what_depends_on_a_key_that_tiny_overrides_is_left_out():
    space = make(
        build_trainer=Shrinks(),
        tuned={**OF_MODEL, "weight_decay": tune.uniform(0, 0.1)},
        first_params=[
            {"model": "base", "learning_rate": 3e-5, "weight_decay": 0.1},
            {"model": "large", "learning_rate": 3e-6, "weight_decay": 0.1},
        ],
    )
    request = make_request(space, SweepConfig(tiny=True))
    assert list(request.space.tuned) == ["weight_decay"]
    assert request.space.first_params == [{"weight_decay": 0.1}]
    assert request.lines == [
        *LOST,
        "first_params[0] no longer has 'learning_rate': it is not tuned",
        "first_params[1] no longer has 'learning_rate': it is not tuned",
        "first_params[1] is dropped: it duplicates an earlier entry",
    ]


def test_a_space_in_which_tiny_leaves_nothing_to_tune_says_so():
    space = make(build_trainer=Shrinks(), tuned=OF_MODEL, first_params=[])
    request = make_request(space, SweepConfig(tiny=True))
    assert request.space.tuned == {}
    assert request.lines == [*LOST, "--tiny leaves nothing to tune"]


def test_a_plain_domain_takes_the_place_of_conditional_ones():
    tuned, first, lines = requested("learning_rate=loguniform(1e-6, 1e-4)")
    assert tuned["learning_rate"] == "loguniform(1e-06, 0.0001)"
    assert (first, lines) == ([FIRST], [])


def test_first_params_that_break_a_constraint_of_what_is_fixed_now_are_dropped():
    def small(values: Mapping[str, Any]) -> bool:
        return bool(values.get("rank", 0) * values["weight_decay"] <= 1)

    space: dict[str, Any] = {
        "tuned": {"rank": tune.randint(4, 9)},
        "fixed": {"weight_decay": 0.1},
        "constraints": [small],
        "first_params": [{"rank": 4}, {"rank": 8}],
    }
    assert requested(**space)[1] == [{"rank": 4}, {"rank": 8}]
    _, first, lines = requested("weight_decay=0.2", **space)
    assert first == [{"rank": 4}]
    assert lines == ["first_params[1] is dropped: it violates the constraint small"]


# Constraints.


def test_a_constraint_sees_params_and_fixed_values():
    seen: list[Mapping[str, Any]] = []

    def watches(values: Mapping[str, Any]) -> bool:
        seen.append(dict(values))
        return True

    space = make(
        tuned={"rank": tune.randint(4, 9)}, fixed={"weight_decay": 0.1}, constraints=[watches]
    )
    assert fixed_values(space) == {"weight_decay": 0.1}
    assert broken_constraint(space, {"rank": 4}) is None
    assert seen == [{"weight_decay": 0.1, "rank": 4}]


def test_the_first_constraint_that_is_broken_is_named_and_a_lambda_by_its_place():
    space = make(constraints=[small_steps, lambda values: values["optim"] == "sgd"])
    assert broken_constraint(space, {"learning_rate": 0.1, "optim": "sgd"}) == "small_steps"
    assert broken_constraint(space, FIRST) == "constraints[1]"
    assert broken_constraint(space, {"learning_rate": 0.01, "optim": "sgd"}) is None


def test_a_constraint_that_raises_for_some_params_alone_says_for_which():
    with pytest.raises(UserError) as raised:
        broken_constraint(make(constraints=[lambda values: values["rank"] > 1]), FIRST)
    assert str(raised.value) == (
        "constraint constraints[0] raised KeyError: 'rank' when called with"
        " {'optim': 'adamw_torch', 'learning_rate': 3e-05}"
    )
