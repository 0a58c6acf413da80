"""The places of worker groups: what follows when groups cannot start, without Ray."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.errors import SweepError
from sweeps.workers import worker_group
from sweeps.workers.group_size import GroupSize
from sweeps.workers.worker_group import START_FAILURES, Surroundings, WorkerGroups

SIZE = GroupSize(workers=1, cpus_per_worker=1, gpus_per_worker=0.48)
LARGE = GroupSize(workers=1, cpus_per_worker=1, gpus_per_worker=0.52)
SMALL = GroupSize(workers=1, cpus_per_worker=1, gpus_per_worker=0.16)
WAITS_S = 30
"""Seconds after which a fault that does not come counts as never coming."""


def answers(method: Callable[..., Any]) -> Any:
    return SimpleNamespace(remote=method)


def worker_groups(
    exchange: Any,
    scratch: Path,
    fault: Callable[..., None],
    note: Callable[[str], None] = lambda _: None,
    variables: dict[str, str] | None = None,
    start_timeout: timedelta = timedelta(minutes=5),
) -> WorkerGroups:
    return WorkerGroups(
        exchange,
        scratch,
        Surroundings(
            there=lambda _: True,
            draining=frozenset,
            note=note,
            fault=fault,
            variables=variables or {},
        ),
        itertools.count(1),
        start_timeout,
        None,
    )


class Gpus:
    """Stands in for Ray and the exchange: groups have their workers, and end, when told to."""

    def __init__(self, patch: pytest.MonkeyPatch, scratch: Path) -> None:
        self.started: queue.Queue[tuple[int, float]] = queue.Queue()
        """Each group that found room, with its part of a GPU."""
        self.present: frozenset[int] = frozenset()
        self.retired: set[int] = set()
        self.over: queue.Queue[int] = queue.Queue()
        """Each group that has ended and left its place."""
        self._ends: dict[int, threading.Event] = {}
        patch.setattr(worker_group.ray, "get", lambda answer: answer)
        patch.setattr(worker_group, "LOOK_S", 0.001)
        patch.setattr(worker_group, "PAUSE_S", 0.001)
        patch.setattr(worker_group.train_run, "wait_for_room", lambda size, wanted: wanted())
        patch.setattr(worker_group.train_run, "run", self._run)
        exchange = SimpleNamespace(
            wants_group=answers(self._wants_group),
            group_lost=answers(lambda group, loss: True),
            present=answers(lambda: self.present),
        )
        self.groups = worker_groups(exchange, scratch, fault=pytest.fail)

    def _run(self, size: GroupSize, exchange: Any, group: int, *_: Any) -> None:
        ends = self._ends.setdefault(group, threading.Event())
        self.started.put((group, size.gpus_per_worker))
        assert ends.wait(WAITS_S)

    def _wants_group(self, lost: int) -> bool:
        self.over.put(lost)
        return lost not in self.retired

    def start(self, number: int) -> list[float]:
        """Return the parts of the next groups that start, and give these their workers."""
        found = [self.started.get(timeout=WAITS_S) for _ in range(number)]
        self.present |= {group for group, _ in found}
        return [part for _, part in found]

    def end(self, group: int) -> None:
        self._ends[group].set()

    def close(self) -> None:
        self.groups.let_go()
        for ends in self._ends.values():
            ends.set()
        assert self.groups.close(WAITS_S)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gpus]:
    found = Gpus(monkeypatch, tmp_path)
    yield found
    found.close()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group ends as soon as it has room."""
    monkeypatch.setattr(worker_group.ray, "get", lambda answer: answer)
    run = worker_group.train_run
    monkeypatch.setattr(run, "wait_for_room", lambda size, wanted: wanted())
    monkeypatch.setattr(run, "run", lambda *args: RuntimeError("it died"))


def test_groups_are_let_go_once_no_resources_are_requested_any_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    requested, withdrawn = threading.Event(), threading.Event()

    def wait_for_room(size: GroupSize, wanted: Callable[[], bool]) -> bool:
        requested.set()
        while wanted():
            pass
        threading.Event().wait(0.1)  # so that a `let_go` that does not wait is first
        withdrawn.set()
        return False

    monkeypatch.setattr(worker_group.ray, "get", lambda answer: answer)
    monkeypatch.setattr(worker_group.train_run, "wait_for_room", wait_for_room)
    groups = worker_groups(SimpleNamespace(present=answers(frozenset)), tmp_path, fault=pytest.fail)
    groups.start(1, SIZE)
    assert requested.wait(WAITS_S)
    groups.let_go()
    assert withdrawn.is_set()
    assert groups.close(WAITS_S)


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
    groups = worker_groups(exchange, tmp_path, fault=faults.put)
    groups.start(2, SIZE)
    assert str(faults.get(timeout=WAITS_S)).startswith("no worker group is left: the last one ")
    assert START_FAILURES > 1, "the first place had one group"
    assert groups.close(WAITS_S)


def test_a_place_given_up_after_all_others_ends_the_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Group 2 does not get its workers in time; then memory runs out in group 1."""
    faults: queue.Queue[SweepError] = queue.Queue()
    given_up, closing = threading.Event(), threading.Event()

    def run(size: GroupSize, exchange: Any, group: int, *_: Any) -> None:
        assert (given_up if group == 1 else closing).wait(WAITS_S)

    monkeypatch.setattr(worker_group.ray, "get", lambda answer: answer)
    monkeypatch.setattr(worker_group, "LOOK_S", 0.001)
    run_of = worker_group.train_run
    monkeypatch.setattr(run_of, "wait_for_room", lambda size, wanted: wanted())
    monkeypatch.setattr(run_of, "lacking", lambda size: "1 GPU needed, 0 free")
    monkeypatch.setattr(run_of, "run", run)
    exchange: Any = SimpleNamespace(
        wants_group=answers(lambda lost: False),
        group_lost=answers(lambda group, loss: True),
        present=answers(lambda: frozenset({1})),
    )

    def note(text: str) -> None:
        if "giving up on group" in text:
            given_up.set()

    groups = worker_groups(
        exchange, tmp_path, faults.put, note, start_timeout=timedelta(seconds=0.01)
    )
    groups.start(2, SIZE)
    assert str(faults.get(timeout=WAITS_S)) == (
        "no worker group is left: the last one ran out of memory on a shared GPU"
    )
    closing.set()
    assert groups.close(WAITS_S)


@pytest.mark.parametrize(
    ("variables", "end"),
    [
        ({}, ", so its processes are being killed"),
        ({"PYTHONPATH": "/code"}, "; it will end with the connection to Ray"),
    ],
)
def test_a_group_that_does_not_stop_is_killed_unless_the_ray_job_is_the_callers(
    variables: dict[str, str], end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """While a thread waits for a group, Ray cannot be left; a caller's own Ray is not left."""
    killed, begun, notes = threading.Event(), threading.Event(), list[str]()

    def run(*_: Any) -> RuntimeError:
        begun.set()
        assert killed.wait(WAITS_S)
        return RuntimeError("it was killed")

    monkeypatch.setattr(worker_group.ray, "get", lambda answer: answer)
    monkeypatch.setattr(worker_group.train_run, "wait_for_room", lambda size, wanted: wanted())
    monkeypatch.setattr(worker_group.train_run, "run", run)
    monkeypatch.setattr(worker_group.train_run, "kill_all", killed.set)
    exchange = SimpleNamespace(present=answers(frozenset))
    groups = worker_groups(exchange, tmp_path, pytest.fail, notes.append, variables)
    groups.start(1, SIZE)
    assert begun.wait(WAITS_S)
    assert not groups.close(0.01)
    assert notes == [f"a worker group did not stop within 0 s{end}"]
    assert killed.is_set() == (not variables)
    killed.set()
    groups._threads[0].join(WAITS_S)
    assert not groups._threads[0].is_alive()


def test_small_groups_wait_until_there_is_a_large_one_on_each_gpu(gpus: Gpus):
    """As a resumed sweep starts them, all at once: six small ones would fill a GPU."""
    gpus.groups.start(2, LARGE)
    gpus.groups.start(6, SMALL)
    first = [gpus.started.get(timeout=WAITS_S) for _ in range(2)]
    assert [part for _, part in first] == [0.52, 0.52]
    gpus.present |= {first[0][0]}
    with pytest.raises(queue.Empty):
        gpus.started.get(timeout=0.05)
    gpus.present |= {first[1][0]}
    assert gpus.start(6) == [0.16] * 6


def test_a_group_that_starts_takes_the_large_place_that_another_has_left(gpus: Gpus):
    """Memory ran out in the large group, which is not replaced; a small one is lost later."""
    gpus.groups.start(1, LARGE)
    assert gpus.start(1) == [0.52]
    gpus.groups.start(2, SMALL)
    assert gpus.start(2) == [0.16, 0.16]
    gpus.retired.add(1)
    gpus.end(1)
    assert gpus.over.get(timeout=WAITS_S) == 1
    gpus.end(2)
    assert gpus.start(1) == [0.52]
    gpus.end(3)
    assert gpus.start(1) == [0.16]
