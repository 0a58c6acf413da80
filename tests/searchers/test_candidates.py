"""The rules around every proposal: first params, constraints, conditions, nothing twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray import tune

from sweeps import SearchSpace, SweepConfig, when
from sweeps.errors import UserError
from sweeps.planning.samples import argument_problems, built_arguments
from sweeps.searchers.candidates import identity
from sweeps.searchers.make_searcher import SEARCHERS
from sweeps.searchers.optuna_space import OptunaSpace
from sweeps.space import domains
from sweeps.space.arguments import argument_fields
from sweeps.space.checks import check_space
from sweeps.space.conditions import active_branches, branches
from sweeps.space.constraints import broken_constraint
from sweeps.space.search_space import fixed_values
from tests.searchers.searching import FIRST, Search, build
from tests.space.test_arguments import DOMAINS

EVERY = pytest.mark.parametrize("searcher", SEARCHERS)
ADAMW, SGD = {"optim": "adamw_torch"}, {"optim": "sgd"}
CONDITIONAL = {
    "optim": tune.choice(["adamw_torch", "sgd"]),
    "learning_rate": [
        when(ADAMW, tune.loguniform(1e-5, 1e-3)),
        when(SGD, tune.loguniform(1e-3, 1e-1)),
    ],
    "adam_beta2": when(ADAMW, tune.uniform(0.9, 0.999)),
    "weight_decay": tune.uniform(0.0, 0.3),
}


def mild(values: Mapping[str, Any]) -> bool:
    """Holds for about one draw in five."""
    return bool(values["weight_decay"] < 0.06)


def as_text(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


@EVERY
def test_the_first_params_come_first_and_in_their_order(searcher: str):
    search = Search(first_params=FIRST, searcher=searcher)
    trials = [search.run(0.5) for _ in range(3)]
    assert [trial.params for trial in trials[:2]] == FIRST
    assert trials[2].params not in FIRST


@EVERY
def test_trials_that_run_at_once_get_different_params(searcher: str):
    search = Search(searcher=searcher)
    assert len({as_text(search.start().params) for _ in range(12)}) == 12


@EVERY
def test_a_conditional_search_that_is_interrupted_anywhere_goes_on_as_if_unbroken(searcher: str):
    first = {"optim": "sgd", "learning_rate": 0.01, "weight_decay": 0.0}
    given: dict[str, Any] = {"constraints": [mild], "first_params": [first], "searcher": searcher}
    whole = Search(CONDITIONAL, seed=3, **given)
    cuts = []
    for number in range(16):
        cut = len(whole.events)
        trial = whole.start() if number % 7 == 3 else whole.run(number / 16)
        cuts.append((cut, trial.params))
    for cut, params in cuts:
        resumed = Search(CONDITIONAL, seed=3, **given)
        resumed.put(*whole.events[:cut])
        assert resumed.propose() == params


@EVERY
def test_params_that_break_a_constraint_are_never_proposed(searcher: str):
    search = Search(CONDITIONAL, searcher=searcher, constraints=[mild])
    found = [search.run(number / 20).params for number in range(20)]
    assert all(params["weight_decay"] < 0.06 for params in found)
    assert len(set(map(as_text, found))) == 20


def test_a_constraint_that_one_draw_in_a_thousand_keeps_is_still_kept():
    def rare(values: Mapping[str, Any]) -> bool:
        return bool(values["weight_decay"] < 0.0003)

    one, other = (Search(CONDITIONAL, constraints=[rare]) for _ in range(2))
    found = [one.run(0.5).params for _ in range(3)]
    assert all(params["weight_decay"] < 0.0003 for params in found)
    assert [other.run(0.5).params for _ in range(3)] == found, "also where all draws were refused"


def test_the_search_ends_where_no_params_keep_the_constraints():
    assert Search(constraints=[lambda values: False]).propose() is None


def test_a_constraint_that_raises_later_ends_the_search_with_its_name():
    search = Search(constraints=[lambda values: values["rank"] > 1])
    with pytest.raises(UserError, match=r"constraint .* raised KeyError: 'rank'"):
        search.propose()


@EVERY
def test_a_finite_conditional_space_is_gone_through_once_and_is_then_used_up(searcher: str):
    tuned = {
        "optim": tune.choice(["adamw_torch", "sgd", "adafactor"]),
        "seed": when(SGD, tune.randint(1, 4)),
        "num_train_epochs": tune.quniform(0.5, 1.0, 0.5),
    }

    def not_short(values: Mapping[str, Any]) -> bool:
        return not (values["optim"] == "adafactor" and values["num_train_epochs"] == 0.5)

    one, other = (Search(tuned, searcher=searcher, constraints=[not_short]) for _ in range(2))
    found: list[str] = []
    while len(found) < 20 and one.propose() is not None:
        found.append(as_text(one.run(0.5).params))
        assert as_text(other.run(0.5).params) == found[-1]
    # 2 of adamw, 3 x 2 of sgd, 1 of adafactor.
    assert len(found) == len(set(found)) == 9


def test_first_params_are_not_drawn_again_and_neither_are_those_of_running_trials():
    search = Search({"seed": tune.randint(1, 4)}, first_params=[{"seed": 2}])
    assert search.start().params == {"seed": 2}
    search.start()
    search.start()
    assert sorted(t.params["seed"] for t in search.history.trials.values()) == [1, 2, 3]
    assert search.propose() is None


def test_fractions_are_equal_to_twelve_digits():
    assert identity({"x": 0.1 + 0.2}) == identity({"x": 0.3})
    assert identity({"x": 1.0}) != identity({"x": 1})
    assert identity({"x": [0.1 + 0.2], "y": 1}) == identity({"y": 1, "x": [0.3]})


# Any space.


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Random keys and domains, some under a condition, with or without a constraint."""
    keys = sorted(
        draw(
            st.sets(
                st.sampled_from(sorted(set(DOMAINS) - {"optim", "lr_scheduler_type"})), min_size=1
            )
        )
    )
    tuned: dict[str, Any] = {"optim": tune.choice(["adamw_torch", "sgd"])}
    for key in keys:
        one, other = (draw(st.sampled_from(DOMAINS[key])) for _ in range(2))
        kind = draw(st.sampled_from(("plain", "one", "several", "nested")))
        if kind == "nested" and "bf16" in tuned and key != "bf16":
            tuned[key] = when(SGD, when({"bf16": True}, one))
        else:
            tuned[key] = {
                "plain": one,
                "one": when(SGD, one),
                "several": [when(SGD, one), when(ADAMW, other)],
                "nested": one,
            }[kind]
    limit = draw(st.none() | st.floats(0.3, 1.0))

    def holds(values: Mapping[str, Any]) -> bool:
        return limit is None or bool(
            values.get("height", 0.0) <= limit and values.get("adam_beta2", 0.0) <= 0.9 + limit / 10
        )

    return SearchSpace(
        build_trainer=build,
        metric="eval_score",
        mode="max",
        tuned=tuned,
        fixed={"lr_scheduler_type": "cosine"},  # the others have no `num_cycles`
        constraints=[holds],
    )


@settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    spaces(), st.integers(0, 1000), st.sampled_from(("random", "optuna")), st.sampled_from((1, 2))
)
def test_every_params_set_builds_its_arguments_keeps_the_constraints_and_survives_log_and_optuna(
    space: SearchSpace, seed: int, searcher: str, workers: int
):
    check_space(space, argument_fields(build), "here")
    config = SweepConfig(seed=seed, workers_per_trial=workers)
    assert argument_problems(space, config, Path()) == []
    search = Search(space=space, searcher=searcher, seed=seed)
    ordered, fixed = branches(space.tuned), fixed_values(space)
    for number in range(13):  # TPE begins after ten
        params = search.propose()
        if params is None:
            return
        trial = search.run(number / 13)
        assert as_text(trial.params) == as_text(params), "through the log"
        found = active_branches(ordered, fixed, params)
        assert set(found) == set(params)
        assert all(domains.contains(found[key].domain, value) for key, value in params.items())
        assert broken_constraint(space, params) is None
        built_arguments(space, config, params)
        observed = OptunaSpace(space).observed(search.history.set_of(trial))
        assert set(observed.params) == {branch.name for branch in found.values()}, "through Optuna"
