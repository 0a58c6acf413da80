"""Whole sweeps over closed-form curves: real Tune, Optuna, ASHA, worker groups and event log."""

import os
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray
from ray import tune

from sweeps import SweepConfig
from sweeps.answer.comparison import compare
from sweeps.answer.results import Results, read_results
from sweeps.driver.requests.confirmation_request import make_confirmation
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.requests.rerun import make_rerun
from sweeps.driver.sweep import confirm_request, run_request
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import is_whole
from sweeps.records.event_log import read_events
from sweeps.records.folder import SweepFolder
from sweeps.space.loading import load_space
from sweeps.workers.processes import process_launcher, setup_worker
from tests.conftest import SPACES, RunSweep, run_whole_sweep
from tests.processes import END_S
from tests.watching import Recorder
from tests.workers.test_training import run_job

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
CURVES = str(SPACES / "curves.py")


def shapes(*pairs: tuple[str, float]) -> list:
    """A space whose trials have these shapes and heights, in this order."""
    space = load_space(CURVES).space
    names = sorted({shape for shape, _ in pairs} | {"rises"})
    return replace(
        space,
        tuned={"height": tune.uniform(0.0, 1.0), "shape": tune.choice(names)},
        first_params=[{"height": height, "shape": shape} for shape, height in pairs],
    )


def events(results: Results, kind: type) -> list:
    read = read_events(results.folder.events_file)
    return [event for event, _ in read if isinstance(event, kind)]


def statuses(results: Results) -> list[tuple[str, str | None]]:
    return [(trial.status, trial.failure) for trial in results.history.trials.values()]


@pytest.fixture(scope="module")
def long_sweep(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A curve that rises and falls, eleven that rise, and two groups' worth of memory."""
    calm = [("rises", 0.3 - i / 100) for i in range(11)]
    space = shapes(("falls", 0.8), *calm, ("grows", 0.15), ("grows", 0.14))
    storage = tmp_path_factory.mktemp("long")
    return run_whole_sweep(storage, space, num_trials=14, scheduler="fifo")


def test_the_exported_checkpoint_is_the_one_of_the_best_report_of_a_curve_that_rises_and_falls(
    long_sweep: Results,
):
    found = long_sweep.in_json()
    assert found["best"]["trial"] == "t001"
    assert found["best"]["progress"] == 0.5
    assert found["best"]["value"] == pytest.approx(0.4)
    # The weight moves at each step, so a checkpoint tells from which step it is.
    kept = [e for e in events(long_sweep, ev.CheckpointSaved) if e.trial == "t001"]
    assert Path(found["best"]["checkpoint"]).name == "best-8"
    assert long_sweep.history.trials["t001"].checkpoints["best"].sha256 == kept[3].sha256
    assert len({e.sha256 for e in kept}) == len(kept) == 4


def test_a_group_that_keeps_memory_is_replaced_between_trials_and_others_stay_warm(
    long_sweep: Results,
):
    assert set(statuses(long_sweep)) == {("finished", None)}
    assert [job.group for job in events(long_sweep, ev.JobStarted)] == [1] * 13 + [2]


def test_a_trial_that_raises_or_dies_fails_with_its_cause_and_the_sweep_goes_on(
    run_sweep: RunSweep,
):
    space = shapes(("rises", 0.2), ("raises", 0.9), ("dies", 0.9), ("nan", 0.9), ("rises", 0.5))
    results = run_sweep(space, num_trials=5, scheduler="fifo", workers_per_trial=2, max_failures=0)
    assert statuses(results) == [
        ("finished", None),
        ("failed", "error"),
        ("failed", "error"),
        ("failed", "diverged"),
        ("finished", None),
    ]
    raised, died = (results.history.trials[t].attempts[-1] for t in ("t002", "t003"))
    assert raised.message in {
        f"rank {rank}: ValueError: the curve of height 0.9 raises" for rank in (0, 1)
    }
    assert raised.traceback.rstrip().endswith("ValueError: the curve of height 0.9 raises")
    assert (results.folder.logs / "t002-attempt1.traceback").read_text() == raised.traceback
    assert died.message.split(":")[0] in ("rank 0 died", "rank 1 died")
    # The two that were lost cost their groups, the one that diverged did not.
    groups = [job.group for job in events(results, ev.JobStarted)]
    assert groups == [1, 1, 2, 3, 3]
    # A failed trial leaves nothing behind but a checkpoint among the best three.
    assert results.in_json()["best"]["trial"] == "t005"
    assert results.status == "finished"


def own_processes() -> dict[psutil.Process, str]:
    """The command line of each living process below this one.

    Without the idle workers that Ray keeps and takes from, without what started them, which lives
    as long, and without zombies.
    """
    living = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie's error is one of these
            line = " ".join(process.cmdline())
            if line and "ray::IDLE" not in line and str(process_launcher.__file__) not in line:
                living[process] = line
    return living


def placement_groups() -> set[str]:
    """The ids of the placement groups that are there."""
    table = ray.util.placement_group_table()
    return {key for key, group in table.items() if group["state"] != "REMOVED"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, Ray starts its processes itself")
def test_ray_starts_no_process_that_no_sweep_needs(ray_cluster: None):
    lines = own_processes().values()
    assert [line for line in lines if "monitor.py" in line] == []
    modules = [line.split()[0] for line in lines if line.startswith("ray-dashboard-")]
    assert modules == ["ray-dashboard-StateHead-0"]


def test_twenty_stops_in_a_row_leave_no_placement_group_and_no_process(
    undisturbed_sweep: Results, run_sweep: RunSweep
):
    # Ray's own helpers are there after the first sweep.
    groups_before, processes_before = placement_groups(), own_processes()
    falling = [("rises", 0.9 - i / 100) for i in range(21)]
    results = run_sweep(shapes(*falling), num_trials=21)
    assert statuses(results) == [("finished", None)] + [("stopped_early", None)] * 20
    assert {job.group for job in events(results, ev.JobStarted)} == {1}
    assert placement_groups() == groups_before
    psutil.wait_procs(own_processes().keys() - processes_before.keys(), timeout=END_S)
    assert [line for p, line in own_processes().items() if p not in processes_before] == []


def test_asha_stops_at_rungs_never_a_trial_at_its_end_and_the_log_alone_rebuilds_the_results(
    run_sweep: RunSweep, tmp_path: Path
):
    heights = [("rises", 0.1 + i / 20) for i in range(8)] + [("rises", 0.05), ("rises", 0.02)]
    results = run_sweep(shapes(*heights), num_trials=10, max_concurrent=2)
    for trial in results.history.trials.values():
        last = trial.reports[-1].progress
        assert (trial.status == "finished") == (last == 1.0)
        if trial.status == "stopped_early":
            assert last in (0.125, 0.5)
    assert {"finished", "stopped_early"} == {status for status, _ in statuses(results)}
    # One decision a report, each report once, though Tune may show it twice.
    for trial in results.history.trials.values():
        numbers = [report.number for report in trial.reports]
        assert numbers == sorted(set(numbers)) == sorted(trial.decisions)
    elsewhere = SweepFolder(tmp_path / results.folder.id)
    elsewhere.path.mkdir()
    shutil.copy(results.folder.record_file, elsewhere.record_file)
    shutil.copy(results.folder.events_file, elsewhere.events_file)
    rebuilt, found = read_results(elsewhere).in_json(), results.in_json()
    assert rebuilt["status"] == "finished"
    for one, other in zip(rebuilt["trials"], found["trials"], strict=True):
        assert one.pop("checkpoint_gone") == (one["checkpoint"] is not None)
        assert not other.pop("checkpoint_gone")
        for checkpoint in (one.pop("checkpoint"), other.pop("checkpoint")):
            assert checkpoint is None or "/checkpoints/t00" in checkpoint
        assert one == other
    kept = [trial for trial in results.history.trials.values() if "best" in trial.checkpoints]
    assert len(kept) <= 3
    on_disk = sorted(
        str(p.parent.relative_to(results.folder.path))
        for p in results.folder.checkpoints.glob("*/*/checkpoint.json")
    )
    assert on_disk == sorted(trial.checkpoints["best"].path for trial in kept)


def test_more_workers_than_the_cluster_holds_are_refused_with_the_shortfall(
    run_sweep: RunSweep, tmp_path: Path
):
    held = int(ray.cluster_resources()["CPU"])
    with pytest.raises(UserError) as raised:
        run_sweep(CURVES, workers_per_trial=held + 3)
    assert str(raised.value) == (
        f"a trial needs {held + 3} workers, each with 1 CPU;"
        f" the cluster (1 node, {held} CPUs, 0 GPUs) has room for only {held};"
        " lower --workers-per-trial"
    )
    assert list(tmp_path.glob("results/*")) == []


def test_a_time_budget_starts_no_new_trial_and_stops_running_ones_at_their_next_report(
    run_sweep: RunSweep, monkeypatch: pytest.MonkeyPatch
):
    """The hour has passed when the third trial has reported three times."""
    late = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late)
    monkeypatch.setattr("sweeps.driver.control.time", clock)

    def on_event(event: ev.Event) -> None:
        nonlocal late
        if isinstance(event, ev.Decided) and (event.trial, event.number) == ("t003", 3):
            late = 3600.0

    results = run_sweep(
        CURVES,
        num_trials=5000,
        scheduler="fifo",
        time_budget=timedelta(hours=1),
        on_event=on_event,
    )
    assert results.status == "finished"
    assert statuses(results) == [("finished", None)] * 2 + [("stopped_early", None)]
    assert len(results.history.trials["t003"].reports) == 4


def test_two_workers_and_accumulation_optimise_as_one_worker_does(
    run_sweep: RunSweep, tiny_model_without_dropout: Path, tmp_path: Path
):
    """The same 32 rows a step: 1 x 32 in this process, 2 x 16, and 2 x 8 with 2 accumulations."""
    fixed = [
        f"model={tiny_model_without_dropout}",
        f"dataset={SPACES.parents[1] / 'sweeps' / 'builders' / 'tiny' / 'dataset'}",
        *("train_rows=256", "eval_rows=128", "max_tokens=32", "warmup_steps=0.0"),
        *("max_grad_norm=0.1", "num_train_epochs=2"),
    ]
    alone = make_request("bert_yelp", SweepConfig(), assignments=fixed).space
    params = {"learning_rate": 3e-5, "total_train_batch_size": 32}
    reports = [run_job(alone, params, tmp_path / "alone" / "sweep")[0]]
    split = {"per_device_train_batch_size": [16, 8], "gradient_accumulation_steps": [1, 2]}
    shared = replace(
        alone,
        tuned={key: tune.choice(values) for key, values in split.items()},
        fixed={**alone.fixed, "learning_rate": 3e-5},
        first_params=[
            dict(zip(split, values, strict=True)) for values in zip(*split.values(), strict=True)
        ],
    )
    results = run_sweep(shared, num_trials=2, workers_per_trial=2, scheduler="fifo")
    trials = results.history.trials.values()
    assert [trial.status for trial in trials] == ["finished"] * 2
    reports += [trial.reports for trial in trials]
    curves = [[report.metrics["eval_loss"] for report in each] for each in reports]
    losses = [e.loss for each in reports for report in each for e in report.log_entries]
    assert max(losses) < 2.5  # five classes: ln 5 = 1.61; twice that is the wrong scale
    assert len(curves[0]) == 8
    for other in curves[1:]:
        assert other == pytest.approx(curves[0], rel=1e-4)


def test_a_warm_group_gives_the_same_weights_as_a_fresh_one(run_sweep: RunSweep):
    """Two workers, real training: after the smoke run and t001 in one group, and in its own."""
    shas = []
    for fresh in (False, True):
        results = run_sweep(
            "bert_yelp",
            num_trials=2,
            workers_per_trial=2,
            tiny=True,
            fresh_workers=fresh,
            smoke=not fresh,
        )
        assert [e.outcome for e in events(results, ev.SmokeEnded)] == ["done"] * (not fresh)
        saved = events(results, ev.CheckpointSaved)
        metrics = [
            {k: v for k, v in r.metrics.items() if "runtime" not in k and "per_s" not in k}
            for r in results.history.reports
        ]
        shas.append(([e.sha256 for e in saved], metrics))
        groups = [job.group for job in events(results, ev.JobStarted)]
        assert groups == ([1, 2] if fresh else [1, 1])
        assert saved
    assert shas[0] == shas[1]


def test_no_ray_variable_of_ours_stays_in_the_environment(ray_cluster: None):
    assert "RAY_GCS_SERVER_PORT" not in os.environ


def test_the_raylet_starts_workers_by_our_program(ray_cluster: None):
    lines = [line for line in own_processes().values() if "/raylet/raylet " in line]
    assert len(lines) == 1
    assert f" {setup_worker.__file__} " in lines[0]


def test_params_are_trained_with_other_seeds_in_a_sweep_its_repetition_and_its_confirmation(
    run_sweep: RunSweep,
):
    results = run_sweep(CURVES, num_trials=4, repeats=2)
    trials = list(results.history.trials.values())
    assert [trial.of for trial in trials] == [None, "t001", None, "t003"]
    log = (results.folder.logs / "group1-rank0.log").read_text()
    for trial in trials:
        assert f"{trial.id}, attempt 1, seed {trial.seed}: " in log
    assert "find_unused_parameters" not in log, "a model is not wrapped in DDP for one CPU worker"
    request = make_rerun(results.folder, None, {})
    again = read_results(run_request(request, []).folder)
    assert [(t.params, t.seed, t.of) for t in again.history.trials.values()] == [
        (t.params, t.seed, t.of) for t in trials
    ]
    assert compare(results, again)[-1] == (
        "eval_score was reproduced exactly: 4 of 4 trials with a recorded value match those of"
        f" {results.folder.id}"
    )
    storage = str(results.folder.path.parent)
    request, asked = make_confirmation(
        results, top=2, seeds=2, storage=storage, where={}, command="confirm"
    )
    seen = Recorder()
    assert confirm_request(request, asked, results.folder, [seen]).interrupted is False
    assert isinstance(seen.events[0], ev.ConfirmationStarted)
    assert {type(event) for event in seen.events[1:]} == {ev.OfConfirmation}
    found = read_results(results.folder)
    assert [answer.confirmation for answer in seen.answers] == [found.answer.confirmation]
    assert [*found.history.trials] == ["t001", "t002", "t003", "t004"]
    confirmed = found.answer.confirmation
    assert confirmed is not None
    assert confirmed.ended
    assert {arm.params_set for arm in confirmed.arms} == {"t001", "t003"}
    for arm in confirmed.arms:  # the curves rise to their end, without noise
        assert arm.values == (arm.params["height"],) * 2
    kept = [run for run in found.history.confirming.values() if "best" in run.checkpoints]
    assert confirmed.best_run in {run.id for run in kept}
    for run in kept:
        assert is_whole(results.folder.path / run.checkpoints["best"].path)
    log = (results.folder.logs / "group1-rank0.log").read_text()
    for run in found.history.confirming.values():
        assert f"{run.id}, attempt 1, seed {run.seed}: " in log
