"""The fold of a sweep's events into what the runs of a tracker get."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sweeps.answer.answer import find_answer
from sweeps.config import SweepConfig
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.report import Report
from sweeps.trackers.base import SWEEP, RunUpdate
from sweeps.trackers.note import note
from sweeps.trackers.updates import Updates
from tests.written_confirmation import confirmation_events
from tests.written_sweep import WrittenSweep, four_trials


def folded(sweep: WrittenSweep) -> tuple[Updates, dict[str, RunUpdate]]:
    """Return the fold of a whole log, and the updates by key."""
    updates = Updates(sweep.record)
    for event, _ in read_events(sweep.folder.events_file):
        updates.apply(event)
    return updates, {update.key: update for update in updates.take()}


def test_equal_events_give_equal_updates_whole_or_in_parts(
    tmp_path: Path,
) -> None:
    (tmp_path / "weights").mkdir()
    sweep = four_trials(tmp_path, tmp_path / "weights")
    in_parts, points = Updates(sweep.record), []
    for event, _ in read_events(sweep.folder.events_file):
        in_parts.apply(event)
        points += [(update.key, p) for update in in_parts.take() for p in update.points]
    _, at_once = folded(sweep)
    together = [(key, p) for key, update in at_once.items() for p in update.points]
    assert sorted(points, key=repr) == sorted(together, key=repr)
    assert all(math.isfinite(point.value) for _, point in together)
    assert list(at_once) == [SWEEP, "t001", "t002", "t003", "t004"]


def test_the_trial_that_leads_is_marked_and_the_one_before_it_no_longer(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    for trial, value in (("t001", 0.7), ("t002", 0.5), ("t003", 0.9)):
        sweep.begin(trial)
        sweep.report(trial, 1, value)
        sweep.end(trial, "finished")
    sweep.end_sweep()
    _, updates = folded(sweep)
    marks = {trial: update.tags.get("sweep.best") for trial, update in updates.items()}
    assert marks == {SWEEP: None, "t001": "false", "t002": None, "t003": "true"}


def test_trials_are_numbered_as_results_sorts_them_equals_by_their_number(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    for trial, value in (("t001", 0.7), ("t002", 0.9), ("t003", 0.9)):
        sweep.begin(trial)
        sweep.report(trial, 1, value)
    fold, updates = folded(sweep)
    ranks = {trial: update.tags.get("sweep.rank") for trial, update in updates.items()}
    assert ranks == {SWEEP: None, "t001": "00003", "t002": "00001", "t003": "00002"}
    assert [trial.id for trial in fold.history.ranked()] == ["t002", "t003", "t001"]
    sweep.report("t001", 2, 0.8)
    fold, updates = folded(sweep)
    assert updates["t001"].tags["sweep.rank"] == "00003"


def test_the_numbers_of_many_trials_are_written_a_few_times_each_and_right_at_the_end(
    tmp_path: Path,
) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    fold, ranks, written = Updates(sweep.record), dict[str, str](), 0

    def feed(*events: ev.Event) -> None:
        nonlocal written
        for event in events:
            fold.apply(event)
            for update in fold.take():
                if "sweep.rank" in update.tags:
                    ranks[update.key] = update.tags["sweep.rank"]
                    written += 1

    feed(ev.SweepStarted(sweep=sweep.folder.id))
    for number in range(1, 201):  # each is better than all before it
        trial = f"t{number:03}"
        report = Report(
            trial=trial,
            number=1,
            step=1,
            max_steps=1,
            epoch=1.0,
            metrics={"eval_accuracy": number / 1000},
            train_s=1.0,
        )
        feed(
            ev.TrialSuggested(trial=trial, params={"x": number}, origin="searcher", seed=0),
            ev.JobStarted(trial=trial, attempt=1, group=1, devices=1),
            ev.Reported(report=report),
        )
    feed(ev.SweepEnded(status="finished"))
    assert ranks == {f"t{number:03}": f"{201 - number:05}" for number in range(1, 201)}
    assert written < 8 * 200


def test_numbers_written_at_an_interruption_are_known_after_the_resume(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    for number in range(1, 15):
        sweep.begin(f"t{number:03}")
        sweep.report(f"t{number:03}", 1, number / 100)
    events = [event for event, _ in read_events(sweep.folder.events_file)]
    first, again, tool = Updates(sweep.record), Updates(sweep.record), dict[str, str]()

    def write(fold: Updates) -> None:
        for update in fold.take():
            if "sweep.rank" in update.tags:
                tool[update.key] = update.tags["sweep.rank"]

    for event in events:
        first.apply(event)
    first.interrupt()
    write(first)
    for event in events:
        again.apply(event)
        again.take()  # the tool has these
    for event in (ev.SweepStarted(sweep=sweep.folder.id), ev.SweepEnded(status="finished")):
        again.apply(event)
        write(again)
    assert tool == {f"t{number:03}": f"{15 - number:05}" for number in range(1, 15)}


def test_a_trial_has_the_place_of_its_best_checkpoint_as_long_as_it_is_there(
    tmp_path: Path,
) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.7)
    place = {"trial": "t001", "kind": "best", "path": "checkpoints/t001/best-20"}
    sweep.put(ev.CheckpointSaved, **place, number=1, sha256="0")
    _, updates = folded(sweep)
    assert updates["t001"].tags["sweep.checkpoint"] == (
        "bert_yelp-20261122-0741-k3f9/checkpoints/t001/best-20"
    )
    sweep.put(ev.CheckpointDropped, **place)
    _, updates = folded(sweep)
    assert updates["t001"].tags["sweep.checkpoint"] == "deleted"


def test_speed_and_memory_are_metrics_of_a_report(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    fold = Updates(sweep.record)
    fold.apply(ev.SweepStarted(sweep=sweep.folder.id))
    fold.apply(ev.TrialSuggested(trial="t001", params={}, origin="searcher", seed=0))
    fold.apply(ev.JobStarted(trial="t001", attempt=1, group=1, devices=1))
    report = Report(
        trial="t001",
        number=1,
        step=20,
        max_steps=80,
        epoch=0.5,
        metrics={"eval_accuracy": 0.7},
        train_s=1.0,
        rows_per_s=64.0,
        memory_bytes=500_000_000,
    )
    fold.apply(ev.Reported(report=report))
    values = {p.name: p.value for update in fold.take() for p in update.points}
    assert values["rows_per_s"] == 64.0
    assert values["system/worker_memory_megabytes"] == 500.0
    assert "system/gpu_memory_megabytes" not in values, "there is none"


def test_the_time_that_a_trial_trained_leaves_out_the_pause_before_its_resume(
    tmp_path: Path,
) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    cut_off = {"attempt": 1, "outcome": "interrupted", "train_s": 6.0, "device_s": 20.0}
    sweep.put(ev.AttemptEnded, trial="t001", **cut_off)
    sweep.now += 2 * 3600
    sweep.put(ev.SweepStarted, sweep=sweep.folder.id)
    sweep.job("t001", attempt=2)
    sweep.report("t001", 2, 0.6, attempt=2)
    sweep.end("t001", "finished", attempt=2)
    sweep.end_sweep()
    _, updates = folded(sweep)
    times = [p for p in updates["t001"].points if p.name in ("train_s", "device_s")]
    assert [(p.name, p.value, p.step) for p in times] == [
        ("train_s", 6.0, 20),
        ("device_s", 20.0, 20),
        ("train_s", 14.0, 40),
        ("device_s", 50.0, 40),
    ]


def test_params_that_are_repeated_are_judged_by_their_mean(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9", config=SweepConfig(repeats=2))
    values = {"t001": 0.5, "t002": 0.7, "t003": 0.9, "t004": 0.1}
    for trial, value in values.items():
        first = {"t002": "t001", "t004": "t003"}.get(trial)
        seed, params = 17 + (first is not None), {"learning_rate": 1e-4 if trial < "t003" else 1e-5}
        origin = "repeat" if first else "searcher"
        suggested = {"trial": trial, "params": params, "origin": origin, "seed": seed, "of": first}
        sweep.put(ev.TrialSuggested, **suggested)
        sweep.job(trial)
        sweep.report(trial, 1, value)
        sweep.end(trial, "stopped_early")
    sweep.end_sweep()
    fold, updates = folded(sweep)
    best = [p for p in updates[SWEEP].points if p.name == "best_eval_accuracy"]
    assert [point.value for point in best] == [pytest.approx(0.6)], "once all seeds have reported"
    assert [updates[trial].params["seed"] for trial in values] == [17, 18, 17, 18]
    assert updates["t004"].new.tags["sweep.repeat_of"] == "t003"
    answer = find_answer(fold.history, "finished")
    assert note(answer, sweep.record.space.domains).startswith(
        "**Best params: those of t001** with `eval_accuracy` **0.6**, the mean over 2 of 2 seeds,"
        " standard error 0.1.\n\n**Best trial: t002** with `eval_accuracy` **0.7**"
    )


def test_the_best_value_is_that_of_the_answer_even_if_the_trial_that_led_fails(
    tmp_path: Path,
) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    for trial, value in (("t001", 0.9), ("t002", 0.8)):
        sweep.begin(trial)
        sweep.report(trial, 1, value)
    sweep.end("t001", "failed", "error")
    sweep.end("t002", "finished")
    sweep.end_sweep()
    fold, updates = folded(sweep)
    winner = find_answer(fold.history, "finished").winner
    assert winner is not None
    best = [p for p in updates[SWEEP].points if p.name == "best_eval_accuracy"]
    assert [point.value for point in best] == [0.9, 0.8]
    assert best[-1].value == winner.mean


def test_no_trial_is_marked_once_the_only_one_with_a_value_has_failed(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.9)
    sweep.end("t001", "failed", "error")
    fold, updates = folded(sweep)
    assert find_answer(fold.history, "running").winner is None
    assert updates["t001"].tags["sweep.best"] == "false"


def test_the_best_value_is_not_that_of_params_which_lack_a_seed(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9", config=SweepConfig(repeats=2))
    values = {"t001": 0.5, "t002": 0.7, "t003": 0.9, "t004": None}
    for trial, value in values.items():
        first = {"t002": "t001", "t004": "t003"}.get(trial)
        sweep.put(ev.TrialSuggested, trial=trial, params={}, origin="searcher", seed=17, of=first)
        sweep.job(trial)
        if value is not None:
            sweep.report(trial, 1, value)
        sweep.end(trial, "failed" if value is None else "finished", None if value else "error")
    sweep.end_sweep()
    _, updates = folded(sweep)
    best = [p for p in updates[SWEEP].points if p.name == "best_eval_accuracy"]
    assert [point.value for point in best] == [pytest.approx(0.6)]


def test_a_confirmation_is_in_the_note_and_makes_no_runs(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    sweep = four_trials(tmp_path, tmp_path / "weights")
    fold, _ = folded(sweep)
    arms = {"t002": [0.90, 0.91, 0.92] * 2, "t001": [0.50, 0.52, 0.51] * 2}
    *runs, end = confirmation_events(arms, metric="eval_accuracy")
    domains = sweep.record.space.domains
    for event in runs:
        fold.apply(event)
    assert "has not finished yet" in note(find_answer(fold.history, "finished"), domains)
    fold.apply(end)
    assert [*fold.take()] == []
    assert (
        "On 6 fresh seeds each: **better** (t002 against t001).\n\n"
        "- t002: 0.91, 95 % interval 0.9006"
    ) in note(find_answer(fold.history, "finished"), domains)


def test_the_note_does_not_call_params_confirmed_without_a_verdict(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    sweep = four_trials(tmp_path, tmp_path / "weights")
    fold, _ = folded(sweep)
    arms = {"t002": [0.9, 0.91], "t001": [0.5, 0.52]}
    for event in confirmation_events(arms, metric="eval_accuracy"):
        fold.apply(event)
    said = note(find_answer(fold.history, "finished"), sweep.record.space.domains)
    assert (
        "On 2 fresh seeds each: **no verdict** (t002 against t001), because 2 seeds are too few"
        in said
    )


def test_a_paused_trial_is_tagged_so_until_it_runs_again(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.pause("t001", 1)
    fold, updates = folded(sweep)
    assert updates["t001"].tags["sweep.status"] == "paused"
    fold.interrupt()
    closed = {update.key: update for update in fold.take()}["t001"]
    assert (closed.status, closed.tags["sweep.status"]) == ("interrupted", "paused")
    fold.apply(ev.TrialResumed(trial="t001"))
    [resumed] = fold.take()
    assert resumed.tags["sweep.status"] == "waiting"


def test_a_sweep_that_ends_within_its_first_repeats_has_their_mean_so_far(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9", config=SweepConfig(repeats=2))
    suggested = {"trial": "t001", "params": {}, "origin": "searcher", "seed": 17, "of": None}
    sweep.put(ev.TrialSuggested, **suggested)
    sweep.job("t001")
    sweep.report("t001", 1, 0.5)
    sweep.end("t001", "stopped_early")
    sweep.end_sweep()
    _, updates = folded(sweep)
    best = [p for p in updates[SWEEP].points if p.name == "best_eval_accuracy"]
    assert [point.value for point in best] == [0.5]
