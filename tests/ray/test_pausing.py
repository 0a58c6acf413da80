"""A scheduler that pauses and promotes trials, in a whole sweep on real worker groups."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.answer.results import Results
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from tests.conftest import RunSweep
from tests.ray.test_sweep import shapes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def events(results: Results, kind: type[Any]) -> list[Any]:
    read = read_events(results.folder.events_file)
    return [event for event, _ in read if isinstance(event, kind)]


def test_paused_trials_leave_their_groups_and_slots_to_others_and_the_better_half_goes_on(
    run_sweep: RunSweep,
):
    """Six trials on one group: four pause at a quarter, two of them at a half, one ends."""
    heights = (0.2, 0.8, 0.4, 0.6, 0.3, 0.1)
    results = run_sweep(
        shapes(*(("rises", height) for height in heights)),
        num_trials=6,
        max_concurrent=1,  # a bracket is made of the first four to report
        scheduler="tests.schedulers.halving:Halving",
    )
    assert results.status == "finished"
    trials = results.history.trials
    assert {t.id: (t.status, len(t.reports)) for t in trials.values()} == {
        "t001": ("stopped_early", 2),
        "t002": ("finished", 8),
        "t003": ("stopped_early", 2),
        "t004": ("stopped_early", 4),
        "t005": ("stopped_early", 2),
        "t006": ("stopped_early", 2),
    }
    assert [event.trial for event in events(results, ev.TrialResumed)] == ["t002", "t004", "t002"]
    assert [attempt.outcome for attempt in trials["t002"].attempts] == ["paused", "paused", "done"]
    steps = [report.step for report in trials["t002"].reports]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16], "each part goes on from the state of the last"
    groups = {job.group for job in events(results, ev.JobStarted)}
    assert groups == {1}, "it stays warm"
    states = [e for e in events(results, ev.CheckpointSaved) if e.kind == "state"]
    assert len(states) == 8, "one at each pause"
    assert not list(results.folder.checkpoints.glob("*/checkpoint-*"))
