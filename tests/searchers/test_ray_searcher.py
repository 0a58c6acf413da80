"""Ray's searchers: what they observe, that a resume replays it, and which are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

import pytest
from ray import tune
from ray.tune.search import ConcurrencyLimiter, Repeater, Searcher

from sweeps import when
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.searchers.candidates import DRAWS
from sweeps.space import domains
from tests.searchers.searching import FIRST, TUNED, Search

OPTUNA = "ray.tune.search.optuna:OptunaSearch"
WARM_START = [WarmStartTrial({**FIRST[0], "x": x / 4}, x / 4) for x in range(4)]


class Recorder(Searcher):
    """Draws at random, seeded by every call so far: any other order gives other params."""

    def __init__(self, space: Mapping[str, Any], metric: str, mode: str, seed: int) -> None:
        super().__init__(metric=metric, mode=mode)
        self.space = space
        self.calls: list[tuple[Any, ...]] = [(seed,)]

    def suggest(self, trial_id: str) -> Any:
        self.calls.append(("suggest", trial_id))
        generator = Random(repr(self.calls))
        return {key: domains.draw(domain, generator) for key, domain in self.space.items()}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.calls.append(("result", trial_id, result))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.calls.append(("complete", trial_id, result, error))


class Observer(Recorder):
    """A recorder that observes what it did not suggest, too."""

    def add_evaluated_point(self, parameters: dict[str, Any], value: float, *_: Any) -> None:
        self.calls.append(("point", parameters, value))


def make(space: Any, metric: str, mode: str, seed: int) -> Observer:
    return Observer(space, metric, mode, seed)


class Kept:
    """A factory that keeps what it made."""

    def __init__(self, of: Any = make) -> None:
        self.of = of
        self.made: list[Any] = []

    def __call__(self, space: Any, metric: str, mode: str, seed: int) -> Any:
        self.made.append(self.of(space, metric, mode, seed))
        return self.made[-1]

    @property
    def calls(self) -> list[tuple[Any, ...]]:
        """Of the newest, but for its seed."""
        return list(self.made[-1].calls[1:])


def positive(values: Mapping[str, Any]) -> bool:
    return bool(values["x"] > 0.5)


# The same again.


def interleaved(search: Search) -> Iterator[int]:
    """Run 18 trials, three at once, with all kinds of ends; yield before each proposal."""
    running: list[Any] = []
    for number in range(18):
        yield len(search.events)
        sets = search.history.sets()
        again = sets and len(sets[-1].trials) < search.config.repeats
        running.append(search.begin(of=search.history.trials[sets[-1].id] if again else None))
        for trial in running:
            search.report(trial, math.nan if number == 7 else number / 18)
        if len(running) == 3:
            failure = {6: "error", 7: "diverged", 11: "out_of_memory", 13: "stalled"}.get(number)
            search.end(running.pop(number % 2), failure)


@pytest.mark.parametrize(
    "changes",
    [
        {"factory": make},
        {"factory": make, "constraints": [positive], "first_params": FIRST},
        {"factory": make, "repeats": 2, "warm_start": WARM_START},
        {"factory": make, "tuned": {"seed": tune.randint(0, 400)}},
        {"searcher": OPTUNA},
        {"searcher": OPTUNA, "constraints": [positive], "first_params": FIRST},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_a_search_that_is_resumed_anywhere_goes_on_as_if_unbroken(changes: dict[str, Any]):
    whole = Search(seed=3, **changes)
    cuts = list(interleaved(whole))
    assert len({repr(s.params) for s in whole.history.sets()}) == len(whole.history.sets()) > 8
    for cut, trial in zip(cuts, whole.history.trials.values(), strict=True):
        resumed = Search(seed=3, **changes)
        resumed.put(*whole.events[:cut])
        if trial.of is None:
            assert resumed.propose() == trial.params, trial.id
        assert resumed.notes == []


def test_params_that_were_proposed_and_not_logged_do_not_change_what_comes_next():
    """What came in between is observed before the suggestion, as a resume would do it."""
    one, other = Search(factory=make), Search(factory=make)
    for search in (one, other):
        search.begin()
    one.propose()
    for search in (one, other):
        search.report(search.history.trials["t001"], 0.5)
    assert one.propose() == one.propose() == other.propose()


def test_another_seed_gives_other_params():
    assert Search(factory=make, seed=1).propose() != Search(factory=make, seed=2).propose()


# What is observed.


def test_a_searcher_observes_suggestions_reports_and_ends_in_the_order_of_the_log():
    factory = Kept()
    search = Search(factory=factory)
    first = search.begin()
    search.report(first, 0.9)
    second = search.begin()
    search.report(first, 0.7)
    search.end(first)
    search.end(second, "error")
    search.end(search.begin(), "diverged")
    search.propose()
    best = {"eval_score": 0.9, "training_iteration": 1}
    assert factory.calls == [
        ("suggest", "params001-0"),
        ("result", "params001-0", best),
        ("suggest", "params002-0"),
        ("result", "params001-0", {"eval_score": 0.7, "training_iteration": 2}),
        ("complete", "params001-0", best, False),
        ("complete", "params002-0", None, True),
        ("suggest", "params003-0"),
        ("complete", "params003-0", None, False),
        ("suggest", "params004-0"),
    ]


def test_repeats_are_one_suggestion_that_completes_with_their_mean():
    factory = Kept()
    search = Search(factory=factory, repeats=2)
    first = search.run(0.9, 0.4)
    search.propose()
    assert factory.calls[1:] == [("suggest", "params002-0")]
    again = search.begin(of=first)
    search.report(again, 0.5)
    search.end(again)
    search.propose()
    assert factory.calls == [
        ("suggest", "params001-0"),
        (
            "complete",
            "params001-0",
            {"eval_score": pytest.approx(0.7), "training_iteration": 1},
            False,
        ),
        ("suggest", "params002-0"),
    ]


def test_a_refused_draw_completes_without_a_result_and_is_drawn_again():
    first = Search(factory=make).propose()
    factory = Kept()
    search = Search(factory=factory, constraints=[lambda values: values["x"] != first["x"]])
    assert search.propose() not in (None, first)
    assert factory.calls == [
        ("suggest", "params001-0"),
        ("complete", "params001-0", None, False),
        ("suggest", "params001-1"),
    ]


def test_params_that_come_from_no_suggestion_are_observed_as_points():
    """All draws are the same; the rest of a small space is tried all the same."""

    class Stuck(Observer):
        def suggest(self, trial_id: str) -> Any:
            super().suggest(trial_id)
            return {"layers": 1}

    factory = Kept(Stuck)
    search = Search({"layers": tune.randint(1, 4)}, factory=factory)
    found = [search.run(0.5).params["layers"] for _ in range(3)]
    assert (found[0], sorted(found), search.propose()) == (1, [1, 2, 3], None)
    points = [call for call in factory.calls if call[0] == "point"]
    assert points == [("point", {"layers": layers}, 0.5) for layers in found[1:]]
    completed = [call[1] for call in factory.calls if call[0] == "complete"]
    assert len(completed) == len(set(completed)) == 1 + 3 * DRAWS


def test_what_it_did_not_suggest_it_observes_as_points_where_it_can():
    factory = Kept()
    search = Search(factory=factory, first_params=FIRST[:1], warm_start=WARM_START[:1])
    search.run(0.5)
    search.propose()
    assert factory.calls == [
        ("point", WARM_START[0].params, 0.0),
        ("point", FIRST[0], 0.5),
        ("suggest", "params002-0"),
    ]
    blind = Kept(Recorder)
    search = Search(factory=blind, first_params=FIRST[:1])
    search.run(0.5)
    search.propose()
    assert blind.calls == [("suggest", "params002-0")]


def test_params_that_a_replay_does_not_suggest_are_said_and_still_observed():
    whole, factory = Search(factory=make, seed=1), Kept()
    tried = [(whole.run(value).params, value) for value in (0.3, 0.6)]
    whole.begin()
    resumed = Search(factory=factory, seed=2)
    resumed.put(*whole.events)
    assert resumed.propose() is not None
    assert resumed.notes == [
        "--searcher mine:make: replayed on this sweep's history, the searcher no longer suggests"
        " the params of t001; the search continues with all results, but not exactly as without"
        " the interruption"
    ]
    points = [call for call in factory.calls if call[0] == "point"]
    resumed.end(resumed.history.trials["t003"])
    resumed.propose()
    assert len(resumed.notes) == 1, "said once, though the searcher was built anew"
    assert points == [("point", params, value) for params, value in tried]


def test_the_search_ends_where_the_searcher_has_finished():
    class Ends(Observer):
        def suggest(self, trial_id: str) -> Any:
            return Searcher.FINISHED if len(self.calls) > 1 else super().suggest(trial_id)

    search = Search(factory=Ends)
    search.start()
    assert search.propose() is None
    assert search.propose() is None


def test_optuna_as_ray_wraps_it_learns_from_a_warm_start_and_earlier_trials():
    search = Search({"x": tune.uniform(0.0, 1.0)}, searcher=OPTUNA, seed=1)
    for _ in range(40):
        trial = search.begin()
        search.report(trial, -abs(trial.params["x"] - 0.3))
        search.end(trial)
    late = [trial.params["x"] for trial in search.history.trials.values()][-15:]
    assert sum(abs(x - 0.3) < 0.1 for x in late) > 5
    assert search.notes == []
    near = [WarmStartTrial({"x": i / 40}, -abs(i / 40 - 0.3)) for i in range(40)]
    warm = Search({"x": tune.uniform(0.0, 1.0)}, searcher=OPTUNA, seed=1, warm_start=near)
    drawn = [warm.start().params["x"] for _ in range(8)]
    assert sum(abs(x - 0.3) < 0.1 for x in drawn) >= 4


def test_a_class_gets_the_domains_as_from_tune_and_numpys_numbers_become_plain_ones():
    import numpy as np

    class FromTune(Searcher):
        def __init__(self, metric: str, mode: str, seed: int) -> None:
            super().__init__(metric=metric, mode=mode)
            self.generator = np.random.default_rng(seed)

        def set_search_properties(
            self, metric: str | None, mode: str | None, config: dict[str, Any], **_: Any
        ) -> bool:
            self.domain = config["layers"]
            return True

        def suggest(self, trial_id: str) -> Any:
            return {"layers": self.generator.integers(self.domain.lower, self.domain.upper)}

    search = Search({"layers": tune.randint(1, 9)}, factory=FromTune)
    assert [type(value) for value in (search.propose() or {}).values()] == [int]


def test_an_argument_whose_condition_is_settled_by_what_is_fixed_is_in_a_flat_space():
    adamw, sgd = {"optim": "adamw_torch"}, {"optim": "sgd"}
    tuned = {
        "learning_rate": [
            when(adamw, tune.loguniform(1e-5, 1e-3)),
            when(sgd, tune.loguniform(1e-3, 1e-1)),
        ],
        "adam_beta2": when(adamw, tune.uniform(0.9, 0.999)),
    }
    search = Search(tuned, fixed=sgd, factory=make)
    params = search.propose() or {}
    assert set(params) == {"learning_rate"}
    assert params["learning_rate"] >= 1e-3


# Refusals.


def refusal(factory: Any, **changes: Any) -> str:
    with pytest.raises(UserError) as raised:
        Search(factory=factory, **changes).propose()
    return str(raised.value).removeprefix("--searcher mine:make: ")


def test_a_conditional_space_is_refused():
    tuned = {
        "optim": tune.choice(["adamw_torch", "sgd"]),
        "adam_beta2": when({"optim": "adamw_torch"}, tune.uniform(0.9, 0.999)),
    }
    assert refusal(make, tuned=tuned) == (
        "tuned['adam_beta2'] depends on optim: a Ray searcher does not support conditions; use"
        " optuna or random"
    )


def test_a_factory_that_makes_no_searcher_is_refused():
    assert refusal(lambda space, metric, mode, seed: 3) == (
        "returns 3, not a ray.tune.search.Searcher"
    )
    assert refusal(lambda metric, mode: None) == (
        "cannot be called with metric, mode, seed (got an unexpected keyword argument 'seed');"
        " pass a function that accepts them and returns the searcher"
    )
    missing = "HyperOpt must be installed!"

    def uninstalled(space: Any, metric: str, mode: str, seed: int) -> Any:
        raise AssertionError(missing)

    assert refusal(uninstalled) == missing


def test_a_searcher_that_needs_more_than_sweeps_calls_is_refused():
    class Pauses(Observer):
        def on_pause(self, trial_id: str) -> None: ...
        def on_unpause(self, trial_id: str) -> None: ...

    assert refusal(Pauses) == (
        "Pauses relies on on_pause and on_unpause, but sweeps calls only suggest, on_trial_result"
        " and on_trial_complete; use another searcher"
    )
    assert refusal(lambda **given: ConcurrencyLimiter(make(**given), 8)) == (
        "returns a ConcurrencyLimiter; return the searcher inside it, and use --max-concurrent"
    )
    assert refusal(lambda **given: Repeater(make(**given), 2)) == (
        "returns a Repeater; return the searcher inside it, and use --repeats"
    )
    assert refusal(lambda **given: make(**given | {"mode": "min"})) == (
        "the mode of Observer is 'min', but the space's mode is 'max'; pass on the mode that the"
        " factory receives"
    )
    assert refusal(Recorder, warm_start=WARM_START) == (
        "--warm-start: Recorder does not implement add_evaluated_point, so it cannot observe the"
        " trials of an earlier sweep"
    )


def test_a_searcher_that_does_not_pass_on_the_seed_is_refused():
    kept: list[Any] = []

    def unseeded(space: Any, metric: str, mode: str, seed: int) -> Any:
        kept.append(make(space, metric, mode, len(kept)))
        return kept[-1]

    message = refusal(unseeded)
    assert message.startswith("two searchers with the same seed (0) differ: they suggest [{")
    assert message.endswith(
        ", so a resumed sweep could not continue this search; pass the seed on to the search"
        " algorithm"
    )


@pytest.mark.parametrize(
    ("suggestion", "problem"),
    [
        (
            None,
            "suggest() returned None: the searcher waits for results, but sweeps needs params now;"
            " remove the searcher's own limit on concurrent trials, and use --max-concurrent",
        ),
        (
            {"x": 0.5},
            "suggests values for ['x'], but ['kind', 'layers', 'learning_rate', 'x'] are tuned",
        ),
        (
            {**FIRST[0], "layers": 9.5},
            "suggests layers = 9.5, which is outside randint(1, 9)",
        ),
    ],
)
def test_what_the_space_does_not_allow_is_refused(suggestion: Any, problem: str):
    class Suggests(Observer):
        def suggest(self, trial_id: str) -> Any:
            return suggestion

    assert refusal(Suggests) == problem


def test_events_of_other_kinds_do_not_matter():
    """A checkpoint or a restart is nothing that a searcher observes."""
    one, other = Search(factory=make), Search(factory=make)
    for search in (one, other):
        search.run(0.5)
    one.put(ev.SweepStarted(sweep="mine"))
    assert one.propose() == other.propose()
    assert set(one.propose() or {}) == set(TUNED)
