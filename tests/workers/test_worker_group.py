"""The places of worker groups: what follows when groups cannot start, without Ray."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.errors import SweepError
from sweeps.workers import worker_group
from sweeps.workers.size import Size
from sweeps.workers.worker_group import START_FAILURES, Surroundings, WorkerGroups

SIZE = Size(workers=1, cpus_per_worker=1, gpus_per_worker=0.48)
WAITS_S = 30
"""Seconds after which a fault that does not come counts as never coming."""


def answers(method: Callable[..., Any]) -> Any:
    return SimpleNamespace(remote=method)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group ends as soon as it has room."""
    monkeypatch.setattr(worker_group.ray, "get", lambda answer: answer)
    run = worker_group.train_run
    monkeypatch.setattr(run, "wait_for_room", lambda size, wanted: wanted())
    monkeypatch.setattr(run, "run", lambda *args: RuntimeError("it died"))


def test_a_place_that_gets_no_group_any_more_does_not_hide_that_no_other_can_start(
    no_ray: None, tmp_path: Path
):
    """Group 1's place is given up; all groups after it fail before they have a job."""
    faults: queue.Queue[SweepError] = queue.Queue()
    exchange: Any = SimpleNamespace(
        wants_group=answers(lambda lost: lost != 1),
        group_lost=answers(lambda group, loss: group == 1),
        members=answers(lambda group: {}),
        present=answers(frozenset),
    )
    groups = WorkerGroups(
        exchange,
        tmp_path,
        Surroundings(
            there=lambda _: True,
            draining=frozenset,
            note=lambda _: None,
            fault=faults.put,
            variables={},
        ),
        itertools.count(1),
        timedelta(minutes=5),
        None,
    )
    groups.start(1, SIZE)
    groups.start(1, SIZE)
    assert str(faults.get(timeout=WAITS_S)) == "no worker group can start: it died"
    assert START_FAILURES > 1, "the first place had one group"
    assert groups.close(WAITS_S)
