"""What dies while a sweep runs: nothing is lost, and what was decided stays decided."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from sweeps.answer.results import Results
from sweeps.errors import SweepError
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.workers.train_run import kill_all
from tests.conftest import SPACES, UNDISTURBED, RunSweep
from tests.processes import END_S
from tests.ray.test_sweep import own_processes, placement_groups, shapes
from tests.watching import Recorder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
CURVES = str(SPACES / "curves.py")
TITLES = {
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "exchange": "ray::Exchange",
    "trial actor": "ray::ResourceTrainable",
    "tracker": "sweeps.trackers.follow",
}
"""How a sweep's processes are called in the process table (ray 2.60)."""


def pids(kind: str) -> list[int]:
    """The living processes of a kind below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if TITLES[kind] in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


class Killer:
    """Kills one process of a kind when a trial's report is there, or is decided."""

    def __init__(self, *plan: tuple[str, type[ev.Event], str, int]) -> None:
        self.plan = list(plan)
        self.done: list[str] = []

    def __call__(self, event: ev.Event) -> None:
        match event:
            case ev.SmokeMeasured():
                key = (ev.SmokeMeasured, "smoke", 0)
            case ev.Reported():
                key = (ev.Reported, event.report.trial, event.report.number)
            case ev.Decided() | ev.CheckpointSaved():
                key = (type(event), event.trial, event.number)
            case _:
                return
        for entry in self.plan:
            if entry[1:] == key:
                self.plan.remove(entry)
                victims = pids(entry[0])
                assert victims, f"there is no {entry[0]} to kill"
                for victim in victims:
                    os.kill(victim, signal.SIGKILL)
                self.done.append(entry[0])
                return


def course(results: Results) -> list[tuple]:
    """Params, reports, decisions and ends: what no death may change."""
    found: list[tuple] = []
    for event, _ in read_events(results.folder.events_file):
        match event:
            case ev.TrialSuggested():
                found.append((event.trial, dict(event.params)))
            case ev.Reported():
                found.append((event.report.trial, event.report.number, event.report.step))
            case ev.Decided():
                found.append((event.trial, event.number, event.decision, event.save_best))
            case ev.TrialEnded():
                found.append((event.trial, event.status, event.failure))
    return found


def test_any_process_may_die_and_the_sweep_decides_as_if_none_had(
    undisturbed_sweep: Results, run_sweep: RunSweep
):
    groups, processes = placement_groups(), own_processes()
    killer = Killer(
        ("worker", ev.SmokeMeasured, "smoke", 0),
        ("trial actor", ev.Reported, "t001", 1),
        ("worker", ev.Decided, "t001", 3),
        ("tracker", ev.Decided, "t001", 6),
        ("controller", ev.Reported, "t001", 7),
        ("exchange", ev.Decided, "t002", 1),
        ("worker", ev.CheckpointSaved, "t004", 1),
    )
    results = run_sweep(
        CURVES,
        on_event=killer,
        max_failures=5,
        smoke=True,
        trackers=("tensorboard",),
        **UNDISTURBED,
    )
    assert killer.plan == []
    smokes = [
        event.outcome
        for event, _ in read_events(results.folder.events_file)
        if isinstance(event, ev.SmokeEnded)
    ]
    assert smokes == ["error", "done"]
    assert course(results) == course(undisturbed_sweep)
    assert results.status == "finished"
    assert placement_groups() == groups
    psutil.wait_procs(own_processes().keys() - processes.keys(), timeout=END_S)
    assert [line for p, line in own_processes().items() if p not in processes] == []


def ends(results: Results) -> dict[str, tuple[str, str | None, list[str]]]:
    """Status, failure and the outcomes of the attempts, by trial."""
    return {
        trial.id: (trial.status, trial.failure, [a.outcome for a in trial.attempts])
        for trial in results.history.trials.values()
    }


def test_faults_of_trials_are_told_apart_and_the_sweep_goes_on(run_sweep: RunSweep):
    """One group after another: memory runs out, a rank stalls, raises."""
    space = shapes(
        *(("rises", 0.9), ("greedy_training", 0.8), ("greedy_evaluation", 0.8)),
        *(("stalls", 0.7), ("raises", 0.6)),
    )
    results = run_sweep(
        space,
        ["per_device_train_batch_size=4"],
        num_trials=5,
        scheduler="fifo",
        max_failures=0,
        stall_timeout=timedelta(seconds=10),
    )
    assert ends(results) == {
        "t001": ("finished", None, ["done"]),
        # 4 rows, then 2: one try with fewer rows, and no more.
        "t002": ("failed", "out_of_memory", ["out_of_memory", "out_of_memory"]),
        "t003": ("finished", None, ["out_of_memory", "done"]),
        "t004": ("failed", "stalled", ["stalled"]),
        "t005": ("failed", "error", ["error"]),
    }
    assert results.status == "finished"
    trials = results.history.trials
    assert "rank 0: no optimizer step" in (trials["t004"].attempts[0].message or "")
    stacks = (results.folder.logs / "t004-attempt1-rank0.stacks").read_text()
    assert "curves.py" in stacks
    assert 'raise ValueError(f"the curve' in (trials["t005"].attempts[0].traceback or "")


def test_groups_that_do_not_stop_can_be_killed(ray_cluster: None, tmp_path: Path):
    """The thread that waits for one gets an error, so Ray can be left."""
    from ray.train import RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchTrainer

    hold = tmp_path / "hold"
    os.mkfifo(hold)
    trainer = TorchTrainer(
        lambda config: Path(config["hold"]).read_text(),
        train_loop_config={"hold": str(hold)},
        scaling_config=ScalingConfig(num_workers=1, use_gpu=False),
        run_config=RunConfig(storage_path=str(tmp_path)),
    )
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(trainer.fit)
        writer = os.open(hold, os.O_WRONLY)  # waits until the worker reads
        try:
            kill_all()
            assert isinstance(ended.exception(), Exception)
            assert not isinstance(ended.exception(), WorkerGroupError)
        finally:
            os.close(writer)


def test_a_group_that_cannot_be_placed_says_what_is_missing_and_is_given_up(run_sweep: RunSweep):
    """Somebody else takes the CPUs after the sweep has counted them."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    cpus = int(ray.cluster_resources()["CPU"])
    taken = placement_group([{"CPU": cpus}])
    ray.get(taken.ready())
    groups, watching = placement_groups(), Recorder()
    try:
        with pytest.raises(SweepError) as raised:
            run_sweep(
                CURVES, num_trials=1, followers=[watching], start_timeout=timedelta(seconds=8)
            )
        assert placement_groups() == groups, "it would start after all"
        assert not any("did not stop within" in note for note in watching.notes)
    finally:
        remove_placement_group(taken)
    lacking = "1 CPU needed, 0 free"
    assert f"group 1 is waiting for its workers: {lacking}" in watching.notes
    assert str(raised.value) == (
        f"no worker group is left: group 1 did not start within 8s (--start-timeout): {lacking}"
    )
