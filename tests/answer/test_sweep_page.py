"""What the page of a sweep shows, on logs whose numbers can be computed by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import math
import tomllib
from pathlib import Path

import pytest

from sweeps.answer.overview import list_sweeps
from sweeps.answer.page.axes import Axis
from sweeps.answer.page.html import ASSETS, in_script, render
from sweeps.answer.page.sweep_page import SweepPage, sweep_page
from sweeps.answer.page.timeline import Span
from sweeps.answer.page.write_page import write_comparison, write_report
from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.space.domain_data import DomainData
from sweeps.trackers.note import note
from tests.answer.drawn_sweep import EVALUATIONS, START, TUNED, Drawn, drawn_sweep
from tests.written_confirmation import confirmation_events

ROOT = Path(__file__).parents[2]
STEADY = [0.5, 0.6, 0.7, 0.8]


def page_of(storage: Path, *trials: Drawn, **fields: object) -> SweepPage:
    return sweep_page(drawn_sweep(storage, *trials, **fields))  # type: ignore[arg-type]


def axis_of(page: SweepPage, name: str) -> Axis:
    return next(axis for axis in page.axes if axis.name == name)


def test_best_so_far_counts_device_time_and_what_early_stopping_saved(tmp_path: Path) -> None:
    stopped = Drawn(curve=[0.55])
    page = page_of(tmp_path, Drawn(curve=STEADY), stopped, Drawn(curve=[0.5, 0.9, 0.9, 0.9]))
    found = page.best_so_far
    # Two devices: an evaluation costs 20 device-seconds. t002 would have taken 60 more.
    steps = [(step.used_s, step.whole_s, step.value, step.trial) for step in found.steps]
    assert steps == [
        *((20 * n, 20 * n, value, "t001") for n, value in enumerate(STEADY, start=1)),
        (140, 200, 0.9, "t003"),
    ]
    assert found.used_s == page.answer.device_s == 180
    assert (found.saved_s, found.stopped) == (60, 1)
    assert found.reached_s == {"t001": 80, "t002": 100, "t003": 140}


def test_the_last_step_is_the_answer_whatever_failed_or_has_one_seed(tmp_path: Path) -> None:
    failed = Drawn(curve=[0.95], status="failed", failures=["E: bad"])
    page = page_of(tmp_path / "a", failed, Drawn(curve=STEADY))
    assert page.answer.winner is not None
    assert page.best_so_far.steps[-1].trial == page.answer.winner.trial == "t002"
    two = SweepConfig(num_trials=4, repeats=2, scheduler="fifo")
    lucky, same = [0.9] * 4, {"rate": 2e-4}
    page = page_of(
        tmp_path / "b",
        *(Drawn(curve=lucky), Drawn(curve=[0.1] * 4, of="t001")),
        *(Drawn(curve=STEADY, params=same), Drawn(curve=STEADY, params=same, of="t003")),
        config=two,
    )
    assert page.answer.winner is not None
    assert page.best_so_far.steps[-1].value == page.answer.winner.mean == pytest.approx(0.8)
    assert page.best_so_far.steps[0].value == 0.5, "the mean of all its seeds"


def test_params_whose_last_seed_failed_are_the_best_so_far_from_then_on(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        Drawn(curve=STEADY),
        Drawn(curve=[], of="t001", status="failed", failures=["it broke"]),
        config=SweepConfig(num_trials=2, repeats=2, scheduler="fifo"),
    )
    assert page.answer.winner is not None
    (step,) = page.best_so_far.steps
    assert (step.trial, step.value) == ("t001", page.answer.winner.mean)


def test_the_time_of_a_group_is_start_trials_gaps_and_idle(tmp_path: Path) -> None:
    trials = Drawn(curve=STEADY), Drawn(curve=[0.5], failures=["E: bad"])
    (lane,) = page_of(tmp_path, *trials).timeline.lanes
    assert lane.devices == 2
    assert lane.spans == (
        Span(start=0, end=20, what="start"),
        Span(start=20, end=60, what="finished", trial="t001"),
        Span(start=60, end=62, what="gap"),
        Span(start=62, end=72, what="failed", trial="t002"),
        Span(start=72, end=82, what="stopped_early", trial="t002"),
        Span(start=82, end=87, what="idle"),
    )


def test_the_time_between_two_processes_belongs_to_none(tmp_path: Path) -> None:
    begun = [
        ev.TrialSuggested(time=START + 20, trial="t001", params={}, origin="searcher", seed=0),
        ev.JobStarted(time=START + 20, trial="t001", attempt=1, group=1, devices=2),
        ev.TrialSuggested(time=START + 30, trial="t002", params={}, origin="searcher", seed=0),
        ev.SweepStarted(time=START + 500, sweep="curves"),
        ev.JobStarted(time=START + 510, trial="t001", attempt=2, group=1, devices=2),
    ]
    page = page_of(tmp_path, more=begun, ended=False, tuned={})
    assert page.answer.status == "interrupted"
    assert [(span.what, span.start, span.end) for span in page.timeline.lanes[0].spans] == [
        ("start", 0, 20),
        ("interrupted", 20, 30),
        ("start", 500, 510),
    ]
    assert page.timeline.device_s == {"start": 60, "interrupted": 20}
    assert [trial.device_s for trial in page.trials] == [0, 0], "nothing after the newest event"


def test_a_group_that_replaces_a_lost_one_takes_its_place(tmp_path: Path) -> None:
    def job(trial: str, group: int, start: float, end: float, outcome: str) -> list[ev.Event]:
        when = {"trial": trial, "attempt": 1}
        ended = {"outcome": outcome, "train_s": 1.0, "device_s": 1.0}
        return [
            ev.TrialSuggested(
                time=START + start, trial=trial, params={}, origin="searcher", seed=0
            ),
            ev.JobStarted(time=START + start, group=group, devices=1, **when),  # type: ignore[arg-type]
            ev.AttemptEnded(time=START + end, **when, **ended),  # type: ignore[arg-type]
        ]

    events = [
        *job("t001", 1, 10, 50, "error"),  # and its group is lost
        *job("t002", 2, 10, 90, "done"),
        *job("t003", 3, 60, 90, "done"),
        *job("t004", 2, 91, 95, "done"),
    ]
    events.sort(key=lambda event: event.time)
    page = page_of(tmp_path, more=events, ended=False, tuned={})
    first, second = page.timeline.lanes
    assert [(span.what, span.start, span.end) for span in first.spans] == [
        ("start", 0, 10),
        ("failed", 10, 50),
        ("start", 50, 60),
        ("finished", 60, 90),
        ("idle", 90, 95),
    ]
    assert [span.what for span in second.spans] == ["start", "finished", "gap", "finished"]


def test_rungs_count_who_got_there_beside_the_forecast(tmp_path: Path) -> None:
    config = SweepConfig(num_trials=2, first_rung=0.25, reduction_factor=2)
    page = page_of(tmp_path / "a", Drawn(curve=STEADY), Drawn(curve=[0.1]), config=config)
    assert [(rung.progress, rung.trials) for rung in page.rungs] == [(0.25, 2), (0.5, 1), (1.0, 1)]
    assert page.rungs[0].expected == 2
    own = dataclasses.replace(config, scheduler="mine:make")
    page = page_of(tmp_path / "b", Drawn(curve=STEADY), Drawn(curve=[0.1]), config=own)
    assert [(rung.trials, rung.expected) for rung in page.rungs] == [(2, None)] + [(1, None)] * 3


def test_an_argument_has_its_place_its_best_of_buckets_and_a_mark_at_the_edge(
    tmp_path: Path,
) -> None:
    sgd = {"optim": "sgd", "momentum": 0.001, "rate": 9.9e-4, "layers": 4}
    page = page_of(
        tmp_path,
        Drawn(curve=STEADY),
        Drawn(curve=[0.9] * 4, params=sgd),
        Drawn(curve=[0.2] * 4, params={"rate": 1.1e-4}),
    )
    rate, momentum = axis_of(page, "rate"), axis_of(page, "momentum when optim = 'sgd'")
    assert rate.edge == "high"
    assert rate.buckets == ((1e-4, 0.8), (9.9e-4, 0.9))
    assert momentum.edge is None, "nothing is below 0"
    layers = axis_of(page, "layers")
    assert (layers.high, layers.edge) == (4, "high"), "randint leaves out its upper bound"
    assert axis_of(page, "optim").buckets == ((0, 0.9), (1, 0.8))
    by_trial = {trial.trial: list(trial.values) for trial in page.trials}
    assert by_trial["t001"] == [1e-4, 1, None, 2]
    assert by_trial["t002"] == [9.9e-4, 0, 0.001, 4]


def test_importance_says_how_many_trials_it_would_need(tmp_path: Path) -> None:
    rates = [1e-5 * 1.5**n for n in range(11)]
    trials = [
        Drawn(curve=[-abs(math.log(rate / 1e-4))] * 4, params={"rate": rate, "layers": 1 + n % 4})
        for n, rate in enumerate(rates)
    ]
    found = page_of(tmp_path / "a", *trials).importance
    assert next(iter(found.shares)) == "rate"
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.params_sets, found.needed) == (11, 50)
    running = Drawn(curve=[0.5], status="running")
    found = page_of(tmp_path / "b", Drawn(curve=STEADY), running, ended=False).importance
    assert (found.shares, found.params_sets) == ({}, 1), "one that has not ended does not count"


def test_failures_are_counted_by_cause(tmp_path: Path) -> None:
    page = page_of(
        tmp_path,
        Drawn(curve=[], status="failed", failures=["E: bad", "E: bad"]),
        Drawn(curve=[], status="failed", failures=["E: bad"]),
        Drawn(curve=STEADY, failures=["F: once"]),
    )
    assert [(c.kind, c.message, c.attempts, list(c.failed)) for c in page.causes] == [
        ("error", "E: bad", 3, ["t001", "t002"]),
        ("error", "F: once", 1, []),
    ]


def test_a_sweep_without_a_value_and_one_that_runs_have_a_page(tmp_path: Path) -> None:
    page = page_of(tmp_path / "a")
    assert page.sentences[0] == "No trial has won yet."
    failed = Drawn(curve=[], status="failed", failures=["E: bad"])
    assert "1 failed" in page_of(tmp_path / "b", failed).sentences[2]
    running = Drawn(curve=[0.5, math.nan], status="running")
    page = page_of(tmp_path / "c", running, ended=False)
    assert [list(trial.curve) for trial in page.trials] == [[(0.25, 0.5)]]
    render("sweep", "a page", page, "")


def test_without_a_script_a_page_shows_its_sentences_and_a_table(tmp_path: Path) -> None:
    near = [Drawn(curve=[*STEADY[:3], last]) for last in (0.80001, 0.800012)]
    bad = Drawn(curve=[], params={"optim": "<b>"}, status="failed", failures=["E: bad"])
    tuned = {**TUNED, "optim": [DomainData(kind="choice", choices=["sgd", "adamw", "<b>"])]}
    one = drawn_sweep(tmp_path, *near, bad, tuned=tuned)
    text = write_report(one).read_text()
    shown = text[text.index("<noscript>") : text.index("</noscript>")]
    assert "<h1>curves-20261123-0741-k3f9</h1>" in shown
    for sentence in sweep_page(one).sentences:
        assert f"<li>{html.escape(sentence)}</li>" in shown
    params = "rate=0.0001 optim=adamw layers=2"
    assert f"<td>t002 ◆</td><td>0.800012</td><td>finished</td><td>100%</td><td>{params}" in shown
    assert "◆ is the best" in shown
    assert "<td>t001</td><td>0.80001</td>" in shown, "and neighbours are told apart"
    assert "<td>-</td><td>rate=0.0001 optim=&lt;b&gt; layers=2</td>" in shown
    other = drawn_sweep(tmp_path, Drawn(curve=[0.4] * 4), sweep="curves-20261124-0741-k3f9")
    text = write_comparison([one, other]).read_text()
    shown = text[text.index("<noscript>") : text.index("</noscript>")]
    assert f"<td>curves-20261123-0741-k3f9</td><td>0.8</td><td>{params}</td><td>-</td>" in shown
    assert "found the best eval_score: 0.8" in shown


def test_a_trial_that_failed_without_a_checkpoint_has_not_won_though_it_has_a_value(
    tmp_path: Path,
) -> None:
    failed = Drawn(curve=[0.5, 0.6], status="failed", failures=["it broke"])
    results = drawn_sweep(tmp_path / "a", failed)
    assert sweep_page(results).sentences[0] == "No trial has won yet."
    assert note(results.answer, {}).startswith("No trial has won yet.")
    page = page_of(tmp_path / "b", Drawn(curve=STEADY), failed)
    assert page.answer.not_told_apart is None, "nothing is left to compare it with"


def test_the_page_of_a_space_without_a_file_gives_no_command_that_fails(tmp_path: Path) -> None:
    results = drawn_sweep(tmp_path, Drawn(curve=STEADY))
    sweep = results.folder.id
    ran = sweep_page(results).ran
    assert ran.repeat == f"python -m sweeps run --from {sweep}"
    source = dataclasses.replace(results.record.source, file=None)
    record = dataclasses.replace(results.record, source=source)
    ran = sweep_page(dataclasses.replace(results, record=record)).ran
    assert (ran.repeat, ran.confirm) == (None, f"sweeps.confirm('{sweep}', space=...)")


def test_of_a_single_trial_there_is_nothing_to_compare(tmp_path: Path) -> None:
    first, second, cost = page_of(tmp_path, Drawn(curve=[0.5])).sentences
    assert first.startswith("The only trial is t001 with eval_score 0.5, reached at 25% of its")
    assert second == "There is nothing to compare it with."
    assert cost.startswith("The sweep took 20 device-seconds for 1 trial (1 stopped early); ")
    assert cost.endswith("saved about 1 device-minute.")


def test_the_answer_says_when_luck_is_not_known(tmp_path: Path) -> None:
    first, second, cost = page_of(tmp_path, Drawn(curve=STEADY), Drawn(curve=[0.9] * 4)).sentences
    assert first == (
        "The best of 2 trials is t002 with eval_score 0.9, reached at 25% of its training; 0.1"
        " better than the first params (t001: 0.8)."
    )
    assert "may be luck" in second
    assert cost == "The sweep took 2.67 device-minutes for 2 trials (2 finished)."


def test_a_confirmation_leads_the_answer(tmp_path: Path) -> None:
    arms = {"t002": [0.8, 0.82, 0.81, 0.8, 0.83, 0.81], "t001": [0.7, 0.71, 0.7, 0.72, 0.7, 0.71]}
    later = [dataclasses.replace(event, time=START + 200) for event in confirmation_events(arms)]
    trials = Drawn(curve=STEADY), Drawn(curve=[0.9] * 4)
    results = drawn_sweep(tmp_path, *trials, more=[_ended(), *later], ended=False)
    page = sweep_page(results)
    assert page.sentences[0].startswith(
        "t002 is better than the baseline t001: on 6 fresh seeds eval_score 0.8117"
    )
    assert "0.08833 more favourable than the fresh seeds" in page.sentences[1]
    assert page.seeds is not None
    assert [one.params_set for one in page.seeds.params] == ["t002", "t001"]
    (lane,) = page.timeline.lanes
    assert {span.trial for span in lane.spans} == {None, "t001", "t002"}, "no runs of it"


def test_the_large_numbers_have_the_digits_of_the_sentences(tmp_path: Path) -> None:
    near = [0.81236, 0.81238, 0.81237, 0.81236, 0.81239, 0.81237]
    arms = {"t002": [value + 1e-5 for value in near], "t001": near}
    later = [dataclasses.replace(event, time=START + 200) for event in confirmation_events(arms)]
    trials = Drawn(curve=[0.5, 0.6, 0.7, 0.80001]), Drawn(curve=[0.5, 0.6, 0.7, 0.80002])
    page = sweep_page(drawn_sweep(tmp_path, *trials, more=[_ended(), *later], ended=False))
    assert [(tile.number, tile.what) for tile in page.tiles] == [
        ("0.81238", "eval_score, confirmed, 0.81237 to 0.81239"),
        ("0.80002", "eval_score, best of the search"),
        ("+1e-05", "gain over the first params"),
    ]
    assert "eval_score 0.81238 (95 % interval 0.81237 to 0.81239)" in page.sentences[0]
    stopped = Drawn(curve=[0.5, 0.6]), Drawn(curve=[0.4, 0.5, 0.6, 0.7])
    assert [(tile.number, tile.what) for tile in page_of(tmp_path / "b", *stopped).tiles] == [
        ("0.7", "eval_score, best of the search"),
        ("-0.1", "gain over the first params, at 50%"),
    ]
    assert page_of(tmp_path / "c").tiles == []


def _ended() -> ev.Event:
    return ev.SweepEnded(time=START + 110, status="finished")


def test_a_trial_that_ends_while_the_page_is_made_is_not_on_it_yet(tmp_path: Path) -> None:
    trials = Drawn(curve=STEADY), Drawn(curve=[0.5], status="running")
    results = drawn_sweep(tmp_path, *trials, ended=False)
    log = EventLog(results.folder.events_file, ())
    now, end = START + 100, {"train_s": 10, "device_s": 20}
    log.append(ev.AttemptEnded(time=now, trial="t002", attempt=1, outcome="done", **end))
    log.append(ev.TrialSuggested(time=now, trial="t003", params={}, origin="searcher", seed=0))
    log.append(ev.JobStarted(time=now, trial="t003", attempt=1, group=1, devices=2))
    log.append(ev.AttemptEnded(time=now, trial="t003", attempt=1, outcome="done", **end))
    log.close()
    (lane,) = sweep_page(results).timeline.lanes
    assert (lane.spans[-1].what, lane.spans[-1].trial) == ("interrupted", "t002")


def test_nothing_in_the_data_ends_its_script() -> None:
    text = in_script({"message": "</script><!-- <b>", "value": math.inf})
    assert "<" not in text
    assert json.loads(text) == {"message": "</script><!-- <b>", "value": None}


def test_the_page_asks_no_host_and_stays_small(tmp_path: Path) -> None:
    curve = [n / 100 for n in range(EVALUATIONS)]
    out = write_report(drawn_sweep(tmp_path, *[Drawn(curve=curve)] * 100))
    assert out == tmp_path / "curves-20261123-0741-k3f9" / "report.html"
    text = out.read_text()
    assert "default-src 'none'" in text
    assert len(text.encode()) < 2e6
    assert "{{" not in text.replace((ASSETS / "echarts.min.js").read_text(), "")


def test_a_page_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    results = drawn_sweep(tmp_path, Drawn(curve=STEADY))
    with pytest.raises(UserError, match=r"cannot write .*missing/page\.html"):
        write_report(results, tmp_path / "missing" / "page.html")


def test_sweeps_are_compared_by_what_differs(tmp_path: Path) -> None:
    from sweeps.answer.page.comparison_page import comparison_page

    one = drawn_sweep(tmp_path, Drawn(curve=STEADY), fixed={"seed": 1}, versions={"torch": "2.13"})
    better = Drawn(curve=[0.9] * 4)
    name = "curves-20261124-0741-aaaa"
    other = drawn_sweep(tmp_path, better, sweep=name, fixed={"seed": 2}, versions={})
    page = comparison_page([one, other])
    assert dict(page.differences) == {
        "fixed seed": ["1", "2"],
        "version of torch": ["2.13", None],
    }
    assert page.sentences[:2] == [
        f"{name} found the best eval_score: 0.9.",
        "Behind it: curves-20261123-0741-k3f9 0.8.",
    ]
    assert write_comparison([one, other]) == tmp_path / "comparison.html"
    lower = drawn_sweep(tmp_path, better, sweep="curves-20261125-0741-bbbb", mode="min")
    with pytest.raises(UserError, match=r"k3f9: eval_score \(max\)"):
        write_comparison([one, lower])
    with pytest.raises(UserError, match="at least two different sweeps"):
        write_comparison([one, one])


def test_the_chart_library_is_the_one_that_was_taken_in() -> None:
    digest, name = (ASSETS / "echarts.sha256").read_text().split()
    assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest
    assert "Apache License" in (ASSETS / "echarts.LICENSE").read_text()


def test_the_files_of_the_page_are_installed_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["sweeps"]
    installed = {file for one in patterns for file in (ROOT / "sweeps").glob(one)}
    assert set(ASSETS.iterdir()) <= installed


def test_the_same_from_python(tmp_path: Path) -> None:
    import sweeps

    first, second = "a-20261123-0741-k3f9", "b-20261123-0741-k3f9"
    for name in (first, second):
        drawn_sweep(tmp_path, Drawn(curve=STEADY), sweep=name)
    page = sweeps.load("a", tmp_path).report(tmp_path / "a.html")
    assert page == tmp_path / "a.html"
    assert first in page.read_text()
    assert sweeps.compare("a", "b", storage=tmp_path) == tmp_path / "comparison.html"


def test_with_repeats_the_mark_is_for_all_seeds_of_params_like_the_best_and_not_for_its_own(
    tmp_path: Path,
) -> None:
    page = page_of(
        tmp_path,
        *(Drawn(curve=[0.7] * 4), Drawn(curve=[0.9] * 4, of="t001")),
        *(Drawn(curve=[0.6] * 4), Drawn(curve=[0.95] * 4, of="t003")),
        config=SweepConfig(num_trials=4, repeats=2, scheduler="fifo"),
    )
    assert page.answer.winner is not None
    assert page.answer.winner.params_set == "t001"
    assert {trial.trial for trial in page.trials if trial.like_best} == {"t003", "t004"}
    (listed,) = list_sweeps(str(tmp_path))
    assert (listed.best, listed.winner, listed.seeds) == (0.8, "t002", 2), "not the value of t002"
