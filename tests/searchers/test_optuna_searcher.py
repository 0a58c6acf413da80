"""Proposals: the same for the same seed and history, inside their domains, and told the truth."""

from __future__ import annotations

import math
import pickle
import threading
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain

from sweeps import SearchSpace, SweepConfig
from sweeps.driver.tune_driver import AsksFor, EndsWith, ReportsTo
from sweeps.records import events as ev
from sweeps.records.event_log import decode, encode
from sweeps.records.history import History
from sweeps.records.trial import Trial
from sweeps.report import Mode, Report
from sweeps.searchers.distributions import distribution, drawn_for, value_of
from sweeps.searchers.optuna_searcher import Proposals
from sweeps.space import domains

BOTH = pytest.mark.parametrize("searcher", ["optuna", "random"])
TUNED: dict[str, Domain] = {
    "x": tune.uniform(0.0, 1.0),
    "learning_rate": tune.loguniform(1e-5, 1e-3),
    "layers": tune.randint(1, 9),
    "kind": tune.choice(["linear", "cosine"]),
}
FIRST = [
    {"x": 0.5, "learning_rate": 1e-4, "layers": 4, "kind": "cosine"},
    {"x": 0.1, "learning_rate": 1e-5, "layers": 8, "kind": "linear"},
]


def build(args: Any) -> None: ...


class Search:
    """A searcher and its history; `run` says a value for the params it proposes."""

    def __init__(
        self,
        tuned: dict[str, Domain] | None = None,
        mode: Mode = "max",
        first_params: Any = (),
        **config: Any,
    ) -> None:
        self.space = SearchSpace(
            build_trainer=build,
            metric="eval_score",
            mode=mode,
            tuned=TUNED if tuned is None else tuned,
            first_params=first_params,
        )
        self.config = SweepConfig(**{"num_trials": 30} | config)
        self.history = History("eval_score", mode, self.config.repeats)
        self.events: list[ev.Event] = []

    def put(self, event: ev.Event) -> None:
        self.events.append(event)
        self.history.apply(event)

    def propose(self) -> tuple[dict[str, Any], ev.Origin]:
        proposed = Proposals(self.space, self.config).propose(self.history)
        assert proposed is not None
        return proposed

    def used_up(self) -> bool:
        return Proposals(self.space, self.config).propose(self.history) is None

    def start(self, of: Trial | None = None) -> Trial:
        """A new trial with proposed params, or those of another again; waiting."""
        params, origin = self.propose() if of is None else (of.params, "repeat")
        trial = f"t{len(self.history.trials) + 1:03}"
        first = of and of.id
        self.put(ev.TrialSuggested(trial=trial, params=params, origin=origin, of=first))
        return self.history.trials[trial]

    def begin(self, of: Trial | None = None) -> Trial:
        trial = self.start(of)
        self.put(ev.JobStarted(trial=trial.id, attempt=1, group=1, devices=1))
        return trial

    def report(self, trial: Trial, value: float) -> None:
        number = len(trial.reports) + 1
        report = Report(
            trial=trial.id,
            number=number,
            step=number,
            max_steps=8,
            epoch=number / 8,
            metrics={"eval_score": value},
            train_s=1.0,
        )
        self.put(ev.Reported(report=report))

    def end(self, trial: Trial, failure: Any = None) -> None:
        ended = {"trial": trial.id, "attempt": 1, "outcome": failure or "done"}
        self.put(ev.AttemptEnded(**ended, train_s=1.0, device_s=1.0))
        status: Any = "failed" if failure else "finished"
        self.put(ev.TrialEnded(trial=trial.id, status=status, failure=failure))

    def run(self, *values: float, failure: Any = None) -> Trial:
        trial = self.begin()
        for value in values:
            self.report(trial, value)
        self.end(trial, failure)
        return trial

    def told(self, trial: Trial) -> optuna.trial.FrozenTrial:
        return Proposals(self.space, self.config).told(self.history.set_of(trial))


def score(params: dict[str, Any]) -> float:
    """Best at x = 0.3 and a learning rate of 1e-4."""
    return -((params["x"] - 0.3) ** 2) - (math.log10(params["learning_rate"]) + 4) ** 2


def searched(trials: int, **options: Any) -> Search:
    search = Search(**options)
    sign = -1 if search.space.mode == "min" else 1
    for _ in range(trials):
        params, _ = search.propose()
        search.run(sign * score(params))
    return search


# The same again.


@BOTH
def test_a_search_that_is_cut_off_anywhere_goes_on_as_if_unbroken(searcher: Any):
    whole = Search(first_params=FIRST, searcher=searcher, seed=3)
    cuts = []
    for number in range(16):
        params, _ = whole.propose()
        trial = whole.begin()
        cuts.append((len(whole.events) - 2, trial.params))
        for value in (score(params) - 1, score(params)):
            whole.report(trial, math.nan if number == 5 else value)
        whole.end(trial, {5: "diverged", 7: "error"}.get(number))
    for cut, params in cuts:
        resumed = Search(first_params=FIRST, searcher=searcher, seed=3)
        for event in whole.events[:cut]:
            resumed.put(decode(encode(event)))
        assert resumed.propose()[0] == params


@BOTH
def test_asking_twice_gives_the_same_params(searcher: Any):
    search = searched(12, searcher=searcher)
    assert search.propose() == search.propose()


@BOTH
def test_another_seed_gives_other_params(searcher: Any):
    proposed = [Search(searcher=searcher, seed=seed).propose()[0] for seed in range(5)]
    assert len({repr(params) for params in proposed}) == 5


@BOTH
def test_trials_that_run_at_once_get_different_params(searcher: Any):
    search = Search(searcher=searcher)
    assert len({repr(search.start().params) for _ in range(12)}) == 12


# Where params come from.


@BOTH
def test_the_first_params_come_first_and_in_their_order(searcher: Any):
    search = Search(first_params=FIRST, searcher=searcher)
    trials = [search.run(0.5) for _ in range(3)]
    assert [trial.params for trial in trials[:2]] == FIRST
    assert [trial.origin for trial in trials] == ["first_params", "first_params", "searcher"]
    assert trials[2].params not in FIRST


def test_random_params_do_not_depend_on_what_earlier_trials_achieved():
    good, bad = Search(searcher="random"), Search(searcher="random")
    for number in range(14):
        good.run(number / 14)
        bad.run(-number / 14, failure="error" if number % 2 else None)
    assert good.propose() == bad.propose()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_optuna_learns_from_earlier_trials_in_both_modes(mode: Mode):
    def last(searcher: str) -> float:
        search = searched(40, mode=mode, searcher=searcher, seed=1)
        scores = [score(dict(trial.params)) for trial in search.history.trials.values()]
        return sum(scores[-15:])

    assert last("optuna") > last("random") / 2, "scores are negative: half as far away, or less"


def test_trials_that_wait_or_run_are_accepted():
    search = searched(12)
    search.start()
    search.report(search.begin(), 0.5)
    params, origin = search.propose()
    assert origin == "searcher"
    assert set(params) == set(TUNED)


# What Optuna is told.


def test_a_trial_is_told_with_its_best_report_and_not_its_last():
    search = Search()
    told = search.told(search.run(0.5, 0.9, 0.7))
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.9)
    lowest = Search(mode="min")
    assert lowest.told(lowest.run(0.5, 0.1, 0.7)).value == 0.1


@pytest.mark.parametrize("failure", ["diverged", "out_of_memory"])
@pytest.mark.parametrize("values", [(), (0.5,)])
def test_params_that_cannot_be_trained_are_told_as_pruned_without_a_value(
    failure: str, values: tuple[float, ...]
):
    search = Search()
    told = search.told(search.run(*values, failure=failure))
    assert (told.state, told.value) == (TrialState.PRUNED, None)


@pytest.mark.parametrize("failure", ["error", "stalled"])
def test_a_trial_that_failed_by_accident_is_told_with_its_best_report_or_as_failed(failure: str):
    search = Search()
    told = search.told(search.run(0.5, 0.4, failure=failure))
    assert (told.state, told.value) == (TrialState.COMPLETE, 0.5)
    assert search.told(search.run(failure=failure)).state == TrialState.FAIL
    assert search.told(search.run(math.nan, failure=failure)).state == TrialState.FAIL


def test_repeats_are_told_once_with_their_mean_when_the_last_has_ended():
    search = Search(repeats=3)
    first = search.run(0.5, 0.9, 0.7)
    running = search.begin(of=first)
    assert search.told(first).state == TrialState.RUNNING, "one runs, one is not there yet"
    search.report(running, 0.4)
    search.end(running, None)
    assert search.told(first).state == TrialState.RUNNING
    search.end(search.begin(of=first), "error")
    assert (search.told(first).state, search.told(first).value) == (
        TrialState.COMPLETE,
        pytest.approx(0.65),
    )


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        (("diverged", "out_of_memory"), TrialState.PRUNED),
        (("diverged", "error"), TrialState.PRUNED),
        (("error", "stalled"), TrialState.FAIL),
    ],
)
def test_repeats_that_all_failed_are_told_as_a_failed_trial(failures: Any, state: TrialState):
    search = Search(repeats=2)
    first = search.run(failure=failures[0])
    search.end(search.begin(of=first), failures[1])
    assert (search.told(first).state, search.told(first).value) == (state, None)


def test_a_trial_that_has_not_ended_is_told_as_running_whatever_it_has_reported():
    search = Search()
    waiting, running = search.start(), search.begin()
    search.report(running, 0.5)
    for trial in (waiting, running):
        told = search.told(trial)
        assert (told.state, told.value) == (TrialState.RUNNING, None)


def test_the_study_of_any_history_accepts_all_its_trials():
    search = Search(first_params=FIRST)
    for failure in (None, "error", "stalled", "diverged", "out_of_memory"):
        for values in ((), (0.5,), (math.nan,), (math.inf, 0.2)):
            search.run(*values, failure=failure)
    search.start()
    search.report(search.begin(), math.nan)
    assert set(search.propose()[0]) == set(TUNED)


# Domains.

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


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.sampled_from(DOMAINS),
    st.integers(0, 2**31),
    st.sampled_from(("optuna", "random")),
    st.lists(st.floats(0, 1), max_size=12),
)
def test_every_proposal_stays_inside_its_domain_and_can_be_told(
    text: str, seed: int, searcher: Any, values: list[float]
):
    domain = domains.parse(text)
    search = Search({"x": domain}, searcher=searcher, seed=seed)
    for value in [*values, 0.5]:
        if search.used_up():
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
    while len(found) < 20 and not search.used_up():
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
def test_a_value_is_told_as_what_optuna_drew_for_it(text: str):
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


def test_equal_choices_of_different_types_are_told_apart():
    domain = tune.choice([1, True])
    assert [drawn_for(domain, value) for value in domain.categories] == [0, 1]


@pytest.mark.parametrize(
    ("choices", "value"), [([0.0, 0.1], 0), ([1, 2.5], 1.0), ([0, 1], True), ([[1, 2]], [1.0, 2])]
)
def test_a_value_that_a_choice_holds_can_be_told(choices: list[Any], value: Any):
    domain = tune.choice(choices)
    if domains.contains(domain, value):
        assert domain.categories[drawn_for(domain, value)] == value


# Tune's view.


def test_tune_gets_our_trial_id_until_there_are_enough():
    left = ["t001", "t002"]
    searcher = AsksFor(lambda: left.pop(0) if left else None)
    assert searcher.suggest("tune-1") == {"trial": "t001"}
    searcher.on_trial_complete("tune-1", {"anything": 1})
    assert searcher.suggest("tune-2") == {"trial": "t002"}
    assert searcher.suggest("tune-3") == Searcher.FINISHED
    searcher.on_trial_complete("tune-2", error=True)


def test_a_report_is_handed_over_and_tune_goes_on():
    taken: list[Any] = []
    report = object()
    answer = ReportsTo(taken.append).on_trial_result(None, None, {"report": report})
    assert (taken, answer) == ([report], "CONTINUE")


def test_tune_ends_when_it_is_told_and_stops_no_trial_by_itself():
    ending = threading.Event()
    ends = EndsWith(ending)
    assert (ends("t001", {"done": True}), ends.stop_all()) == (False, False)
    ending.set()
    assert (ends("t001", {}), ends.stop_all()) == (False, True)


@pytest.mark.parametrize(
    "ours",
    [AsksFor(lambda: None), ReportsTo(lambda _: None), EndsWith(threading.Event())],
    ids=lambda ours: type(ours).__name__,
)
def test_nothing_of_the_sweep_gets_into_tunes_pickles(ours: Any):
    assert pickle.loads(pickle.dumps(ours)).__dict__ == {}
