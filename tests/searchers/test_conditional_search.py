"""Searching conditional and constrained spaces, and spaces that can be used up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray import tune
from transformers import TrainingArguments

from sweeps import SearchSpace, SweepConfig, when
from sweeps.errors import UserError
from sweeps.planning.samples import argument_problems, built_arguments
from sweeps.records import events as ev
from sweeps.records.event_log import decode, encode
from sweeps.records.history import History
from sweeps.report import Report
from sweeps.searchers.optuna_searcher import Proposals, identity
from sweeps.space import domains
from sweeps.space.arguments import argument_fields
from sweeps.space.checks import check_space
from sweeps.space.conditions import active_branches, branches
from sweeps.space.constraints import broken_constraint
from sweeps.space.search_space import fixed_values
from tests.space.test_arguments import DOMAINS

BOTH = pytest.mark.parametrize("searcher", ["optuna", "random"])
ADAMW, SGD = {"optim": "adamw_torch"}, {"optim": "sgd"}
TUNED = {
    "optim": tune.choice(["adamw_torch", "sgd"]),
    "learning_rate": [
        when(ADAMW, tune.loguniform(1e-5, 1e-3)),
        when(SGD, tune.loguniform(1e-3, 1e-1)),
    ],
    "adam_beta2": when(ADAMW, tune.uniform(0.9, 0.999)),
    "weight_decay": tune.uniform(0.0, 0.3),
}
FIRST = {"optim": "sgd", "learning_rate": 0.01, "weight_decay": 0.1}


def build(args: TrainingArguments, *, height: float = 0.5) -> None: ...


def mild(values: Mapping[str, Any]) -> bool:
    """Holds for about one draw in five."""
    return bool(values["weight_decay"] < 0.06)


class Search:
    """A space, its events, and what they add up to."""

    def __init__(self, searcher: Any = "optuna", seed: int = 0, **changes: Any) -> None:
        whole: dict[str, Any] = {
            "build_trainer": build,
            "metric": "eval_score",
            "mode": "max",
            "tuned": TUNED,
        }
        self.space = SearchSpace(**whole | changes)
        self.proposals = Proposals(self.space, SweepConfig(searcher=searcher, seed=seed))
        self.history = History("eval_score", "max")
        self.events: list[ev.Event] = []

    def put(self, event: ev.Event) -> None:
        self.events.append(event)
        self.history.apply(decode(encode(event)))

    def run(self, value: float | None = 0.5) -> dict[str, Any] | None:
        """Run the next trial to its end; None as value leaves it running."""
        proposed = self.proposals.propose(self.history)
        if proposed is None:
            return None
        params, origin = proposed
        trial = f"t{len(self.history.trials) + 1:03}"
        self.put(ev.TrialSuggested(trial=trial, params=params, origin=origin))
        if value is not None:
            report = Report(
                trial=trial,
                number=1,
                step=1,
                max_steps=1,
                epoch=1.0,
                metrics={"eval_score": value},
                train_s=1.0,
            )
            self.put(ev.Reported(report=report))
            self.put(ev.TrialEnded(trial=trial, status="finished"))
        return params


def identity_of(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


@BOTH
def test_a_conditional_search_that_is_cut_off_anywhere_goes_on_as_if_unbroken(searcher: Any):
    given: dict[str, Any] = {"constraints": [mild], "first_params": [FIRST | {"weight_decay": 0.0}]}
    whole = Search(searcher, 3, **given)
    cuts = []
    for number in range(24):
        cut = len(whole.events)
        cuts.append((cut, whole.run(None if number % 7 == 3 else number / 24)))
    for cut, params in cuts:
        resumed = Search(searcher, 3, **given)
        for event in whole.events[:cut]:
            resumed.put(event)
        assert resumed.run() == params


@BOTH
def test_params_that_break_a_constraint_are_never_handed_out(searcher: Any):
    search = Search(searcher, constraints=[mild])
    found = [search.run(number / 40) for number in range(40)]
    assert all(params is not None and params["weight_decay"] < 0.06 for params in found)
    assert len({identity_of(params or {}) for params in found}) == 40


def test_a_constraint_that_one_draw_in_a_thousand_keeps_is_still_kept():
    def rare(values: Mapping[str, Any]) -> bool:
        return bool(values["weight_decay"] < 0.0003)

    search, again = Search(constraints=[rare]), Search(constraints=[rare])
    found = [search.run() or {} for _ in range(3)]
    assert all(params["weight_decay"] < 0.0003 for params in found)
    assert [again.run() for _ in range(3)] == found, "also where the sampler has given up"


def test_the_search_ends_where_no_params_keep_the_constraints():
    assert Search(constraints=[lambda values: False]).run() is None


def test_a_constraint_that_raises_later_ends_the_search_with_its_name():
    with pytest.raises(UserError, match=r"constraint .* raised KeyError: 'rank'"):
        Search(constraints=[lambda values: values["rank"] > 1]).run()


@BOTH
def test_a_finite_conditional_space_is_gone_through_once_and_is_then_used_up(searcher: Any):
    tuned = {
        "optim": tune.choice(["adamw_torch", "sgd", "adafactor"]),
        "seed": when(SGD, tune.randint(1, 4)),
        "num_train_epochs": tune.quniform(0.5, 1.0, 0.5),
    }

    def not_short(values: Mapping[str, Any]) -> bool:
        return not (values["optim"] == "adafactor" and values["num_train_epochs"] == 0.5)

    search = Search(searcher, tuned=tuned, constraints=[not_short])
    again = Search(searcher, tuned=tuned, constraints=[not_short])
    found: list[str] = []
    while len(found) < 20 and (params := search.run(0.5)) is not None:
        found.append(identity_of(params))
        assert again.run(0.5) == params
    # 2 of adamw, 3 x 2 of sgd, 1 of adafactor.
    assert len(found) == len(set(found)) == 9


def test_first_params_are_not_drawn_again_and_neither_are_those_of_running_trials():
    search = Search(tuned={"seed": tune.randint(1, 4)}, first_params=[{"seed": 2}])
    assert search.run(None) == {"seed": 2}
    search.run(None)
    search.run(None)
    assert sorted(t.params["seed"] for t in search.history.trials.values()) == [1, 2, 3]
    assert search.run(None) is None


def test_fractions_are_equal_to_twelve_digits():
    assert identity({"x": 0.1 + 0.2}) == identity({"x": 0.3})
    assert identity({"x": 1.0}) != identity({"x": 1})
    assert identity({"x": [0.1 + 0.2], "y": 1}) == identity({"y": 1, "x": [0.3]})


def test_optuna_sees_the_true_conditional_space():
    search = Search(first_params=[FIRST])
    search.run(0.5)
    (told,) = map(search.proposals.told, search.history.sets())
    assert told.params == {
        "optim": 1,
        "learning_rate when optim = 'sgd'": 0.01,
        "weight_decay": 0.1,
    }
    assert set(told.distributions) == set(told.params)


def test_optuna_learns_within_a_condition():
    """Good: sgd with a learning rate near 0.01; the two learning rates are searched apart."""

    def score(params: Mapping[str, Any]) -> float:
        return float(params["optim"] == "sgd" and 0.005 < params["learning_rate"] < 0.02)

    def hits(searcher: str) -> float:
        search = Search(searcher, 1)
        params: list[Any] = []
        for _ in range(60):
            proposed = search.proposals.propose(search.history)
            assert proposed is not None
            params.append(search.run(score(proposed[0])))
        return sum(map(score, params[-30:]))

    assert hits("optuna") > 2 * hits("random")


# Any space.


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Random keys and domains, some under a condition, with or without a constraint."""
    keys = sorted(draw(st.sets(st.sampled_from(sorted(set(DOMAINS) - {"optim"})), min_size=1)))
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
        constraints=[holds],
    )


@settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    spaces(), st.integers(0, 1000), st.sampled_from(("random", "optuna")), st.sampled_from((1, 2))
)
def test_every_params_set_builds_its_arguments_keeps_the_constraints_and_survives_log_and_optuna(
    space: SearchSpace, seed: int, searcher: Any, workers: int
):
    check_space(space, argument_fields(build), "here")
    config = SweepConfig(seed=seed, workers_per_trial=workers)
    assert argument_problems(space, config) == []
    search = Search(searcher, seed)
    search.space, search.proposals = space, Proposals(space, config)
    ordered, fixed = branches(space.tuned), fixed_values(space)
    for number in range(13):  # TPE begins after ten
        params = search.run(number / 13)
        if params is None:
            return
        found = active_branches(ordered, fixed, params)
        assert set(found) == set(params)
        assert all(domains.contains(found[key].domain, value) for key, value in params.items())
        assert broken_constraint(space, params) is None
        built_arguments(space, config, params)
        trial = list(search.history.trials.values())[-1]
        assert identity_of(trial.params) == identity_of(params), "through the log"
        told = search.proposals.told(search.history.set_of(trial))
        assert set(told.params) == {branch.name for branch in found.values()}, "through Optuna"
