"""Domains as Optuna's distributions: every value is inside its domain, and goes both ways."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray import tune

from sweeps.searchers.distributions import distribution, drawn_for, value_of
from sweeps.space import domains
from tests.searchers.searching import Search

DOMAINS = (
    "uniform(-1.0, 1.0)",
    "quniform(0.0, 1.0, 0.25)",
    "quniform(0.1, 0.7, 0.1)",
    "loguniform(1e-06, 0.01)",
    "qloguniform(0.0001, 0.1, 0.0001)",
    "randint(-3, 4)",
    "randint(5, 6)",
    "qrandint(8, 64, 8)",
    "lograndint(1, 1000)",
    "qlograndint(8, 64, 8)",
    "choice(['linear', 0.5, None, False, [1, 2], 7])",
)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    st.sampled_from(DOMAINS),
    st.integers(0, 2**31),
    st.sampled_from(("optuna", "random")),
    st.lists(st.floats(0, 1), max_size=12),
)
def test_every_proposal_stays_inside_its_domain_and_can_be_observed(
    text: str, seed: int, searcher: str, values: list[float]
):
    domain = domains.parse(text)
    search = Search({"x": domain}, searcher=searcher, seed=seed)
    for value in [*values, 0.5]:
        if search.propose() is None:
            break
        x = search.run(value).params["x"]
        assert domains.contains(domain, x)
        if text.startswith("q"):
            quantum = domain.get_sampler().q
            assert x / quantum == pytest.approx(round(x / quantum), abs=1e-6)
        if "randint" in text:
            assert type(x) is int


@pytest.mark.parametrize("text", ["randint(1, 5)", "qrandint(8, 32, 8)", "quniform(0.0, 1.0, 0.5)"])
def test_every_value_of_a_domain_is_proposed_its_ends_too(text: str):
    domain = domains.parse(text)
    search = Search({"x": domain}, searcher="random")
    expected: dict[str, set[Any]] = {
        "randint(1, 5)": {1, 2, 3, 4},
        "qrandint(8, 32, 8)": {8, 16, 24, 32},
        "quniform(0.0, 1.0, 0.5)": {0.0, 0.5, 1.0},
    }
    found = []
    while len(found) < 20 and search.propose() is not None:
        found.append(search.run(0.5).params["x"])
    assert sorted(found) == sorted(expected[text])


def test_a_quantized_range_of_integers_gives_multiples_of_its_quantum():
    domain = tune.qrandint(1, 64, 8)
    if domains.problem_with(domain) is not None:
        return
    search = Search({"x": domain}, searcher="random")
    assert [x for x in (search.run(0.5).params["x"] for _ in range(8)) if x % 8] == []


@pytest.mark.parametrize("value", [3.2, 59.9])
def test_a_draw_is_rounded_inside_a_domain_whose_ends_are_between_two_quanta(value: float):
    domain = tune.qlograndint(3, 60, 8)
    assert domains.contains(domain, value_of(domain, value))


def test_a_log_domain_is_searched_on_the_log_scale():
    search = Search({"x": tune.loguniform(1e-6, 1.0)}, searcher="random")
    drawn = [search.run(0.5).params["x"] for _ in range(60)]
    assert 20 <= sum(x < 1e-3 for x in drawn) <= 40


def test_a_choice_of_mixed_types_gives_the_choices_themselves():
    choices = ["linear", 0.5, None, False, [1, 2], 7]
    domain = tune.choice(choices)
    search = Search({"x": domain}, searcher="random")
    drawn = [search.run(0.5).params["x"] for _ in choices]
    assert {(type(x), repr(x)) for x in drawn} == {(type(x), repr(x)) for x in choices}


@pytest.mark.parametrize("text", DOMAINS)
def test_a_value_is_observed_as_what_optuna_drew_for_it(text: str):
    domain = domains.parse(text)
    drawn = [
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        .ask({"x": distribution(domain)})
        .params["x"]
        for seed in range(10)
    ]
    for x in drawn:
        value = value_of(domain, x)
        assert value_of(domain, drawn_for(domain, value)) == value
        if "qlog" not in text:  # there the draw is rounded
            assert drawn_for(domain, value) == x


def test_equal_choices_of_different_types_stay_apart():
    domain = tune.choice([1, True])
    assert [drawn_for(domain, value) for value in domain.categories] == [0, 1]


@pytest.mark.parametrize(
    ("choices", "value"), [([0.0, 0.1], 0), ([1, 2.5], 1.0), ([0, 1], True), ([[1, 2]], [1.0, 2])]
)
def test_a_value_that_a_choice_holds_can_be_observed(choices: list[Any], value: Any):
    domain = tune.choice(choices)
    if domains.contains(domain, value):
        assert domain.categories[drawn_for(domain, value)] == value
