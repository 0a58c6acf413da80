"""The order that is kept up event by event is the one that all events together give."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.records.standings import Standings
from sweeps.records.trial import Trial
from sweeps.report import Mode, Report

NAN, INF = math.nan, math.inf
MODES = st.sampled_from(("max", "min"))


def make(number: int = 1, value: float | None = None, trial: str = "t001") -> Report:
    metrics = {} if value is None else {"eval_score": value}
    return Report(
        trial=trial,
        number=number,
        step=number,
        max_steps=8,
        epoch=0.0,
        metrics=metrics,
        train_s=0.0,
    )


def best_of(reports: Sequence[Report], mode: Mode = "max") -> Report | None:
    standings, trial = (
        Standings("eval_score", mode, 1),
        Trial(id="t001", params={}, origin="searcher", seed=0),
    )
    standings.add(trial)
    for report in reports:
        standings.take(trial, report)
    return standings.best(trial)


def test_the_earlier_of_two_equal_reports_is_the_best():
    reports = [make(1, 0.5), make(2, 0.9), make(3, 0.9), make(4, 0.1)]
    assert best_of(reports) is reports[1]
    assert best_of(reports[:1] * 3, "min") is reports[0]


def test_there_is_no_best_report_without_a_finite_value():
    assert best_of([]) is None
    assert best_of([make(1, NAN), make(2, INF)]) is None
    assert best_of([make(1)]) is None


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats() | st.sampled_from((0.25, 0.5)), max_size=8), MODES)
def test_no_finite_value_beats_the_best_report_and_no_earlier_one_equals_it(
    values: list[float], mode: Mode
):
    best = best_of([make(number, value) for number, value in enumerate(values, 1)], mode)
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        assert best is None
        return
    assert best is not None
    assert best.metrics["eval_score"] == (max(finite) if mode == "max" else min(finite))
    assert best.number == values.index(best.metrics["eval_score"]) + 1


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(("report", "end")), st.sampled_from((0.1, 0.2, NAN))
    ),
    max_size=24,
)


@settings(derandomize=True, deadline=None)
@given(EVENTS, MODES, st.integers(1, 3))
def test_the_order_does_not_depend_on_when_it_was_made(
    events: list[tuple[int, str, float]], mode: Mode, repeats: int
):
    trials = [
        Trial(
            id=f"t{i:03}",
            params={},
            origin="searcher",
            of=f"t{i - i % repeats:03}" if i % repeats else None,
            seed=0,
        )
        for i in range(6)
    ]
    step_by_step = Standings("eval_score", mode, repeats)
    for trial in trials:
        step_by_step.add(trial)
    reports = []
    for i, what, value in events:
        trial = trials[i]
        if trial.ended:
            continue
        if what == "end":
            trial.status = "finished"
            step_by_step.end(trial)
        else:
            reports.append((trial, make(value=value, trial=trial.id)))
            step_by_step.take(*reports[-1])
    at_once = Standings("eval_score", mode, repeats)
    for trial in trials:
        at_once.add(trial)
    for trial, report in reports:
        at_once.take(trial, report)
    order = [one.id for one in at_once.in_order()]
    assert [one.id for one in step_by_step.in_order()] == order

    def key(name: str) -> tuple[bool, bool, bool, float]:
        own = at_once.set_of(trials[int(name[1:])])
        return own.mean is None, not own.complete, own.lacks_seeds, at_once.rank(own.mean)

    assert order == sorted((f"t{i:03}" for i in range(0, 6, repeats)), key=key)
    for own in at_once.sets():
        if own.ended and own.mean is not None:
            complete = [
                one.id for one in at_once.in_order() if one.complete and one.mean is not None
            ]
            assert step_by_step.ahead(own, own.trials[0]) == complete.index(own.id)
