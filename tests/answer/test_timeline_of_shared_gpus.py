"""The timeline counts groups that share a GPU as fractions of it."""

from __future__ import annotations

from typing import Any

from sweeps.answer.page.timeline import find_timeline
from sweeps.records import events as ev
from sweeps.records.history import History


def job(trial: str, group: int, begin: float, end: float, devices: float) -> list[ev.Event]:
    of: Any = {"trial": trial, "attempt": 1}
    return [
        ev.TrialSuggested(time=begin, trial=trial, params={}, origin="searcher", seed=0),
        ev.JobStarted(time=begin, **of, group=group, devices=devices),
        ev.AttemptEnded(time=end, **of, outcome="done", train_s=1.0, device_s=1.0),
        ev.TrialEnded(time=end, trial=trial, status="finished"),
    ]


def test_a_shared_gpu_counts_in_parts_and_further_groups_start_once_it_was_measured():
    measured = ev.GpuMeasured(time=20.0, trial="t001", busy=0.5, memory=1, total=8)
    events = [
        ev.SweepStarted(time=0.0, sweep="s"),
        *job("t001", 1, 10.0, 30.0, 1),
        measured,
        *job("t002", 2, 24.0, 40.0, 0.5),
        ev.SweepEnded(time=40.0, status="finished"),
    ]
    events.sort(key=lambda event: event.time)
    history = History("eval_score", "max")
    for event in events:
        history.apply(event)
    found = find_timeline(events, history, "finished", until=40.0)
    assert [[(s.start, s.end, s.what) for s in lane.spans] for lane in found.lanes] == [
        [(0.0, 10.0, "start"), (10.0, 30.0, "finished"), (30.0, 40.0, "idle")],
        [(20.0, 24.0, "start"), (24.0, 40.0, "finished")],
    ]
    assert found.device_s == {
        "start": 10 * 1 + 4 * 0.5,
        "finished": 20 * 1 + 16 * 0.5,
        "idle": 10.0,
    }
