"""What dies while a sweep runs: nothing is lost, and what was decided stays decided."""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import psutil
import pytest

from sweeps.records import events as ev
from sweeps.records.results import Results
from tests.conftest import SPACES, RunSweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
CURVES = str(SPACES / "curves.py")
TITLES = {
    "worker": "ray::RayTrainWorker",
    "controller": "ray::TrainController",
    "exchange": "ray::Exchange",
    "trial actor": "ray::TrialRelay",
    "writer": "sweeps.records.tracking.writer",
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
    for event, _ in ev.read_events(results.folder.events_file):
        match event:
            case ev.TrialSuggested():
                found.append((event.trial, dict(event.params)))
            case ev.Reported():
                found.append((event.report.trial, event.report.number, event.report.step))
            case ev.Decided():
                found.append((event.trial, event.number, event.stop, event.save_best))
            case ev.TrialEnded():
                found.append((event.trial, event.status, event.failure))
    return found


def test_any_process_may_die_and_the_sweep_decides_as_if_none_had(run_sweep: RunSweep):
    config = {"num_trials": 6, "resume_every": timedelta(0), "seed": 5}
    calm = run_sweep(CURVES, **config)
    killer = Killer(
        ("worker", ev.Decided, "t001", 3),
        ("writer", ev.Decided, "t001", 6),
        ("controller", ev.Reported, "t001", 7),
        ("exchange", ev.Decided, "t002", 1),
        ("trial actor", ev.Reported, "t003", 1),
        ("worker", ev.CheckpointSaved, "t004", 1),
    )
    results = run_sweep(CURVES, on_event=killer, max_failures=5, **config)
    assert killer.plan == []
    assert course(results) == course(calm)
    assert results.status == "finished"
