"""Snapshots become whole one after another, whatever fails or is killed meanwhile."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from sweeps.records.checkpoints import finish_checkpoint, is_whole, weights_sha256
from sweeps.records.events import CheckpointKind
from sweeps.records.folder import SweepFolder
from sweeps.workers.saving.complete_snapshot import complete_snapshot
from sweeps.workers.saving.host_copies import HostCopies, Unwritten
from sweeps.workers.saving.snapshots import Snapshot, Snapshots
from sweeps.workers.signals import Signals

PATIENCE_S = 30.0
"""Longest wait for what must come."""


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., Snapshot]:
    """Writes what HF writes at a step."""

    def write(number: int, *kinds: CheckpointKind) -> Snapshot:
        paths = {kind: tmp_path / f"{kind}-{number}" for kind in kinds or ("best",)}
        for path in paths.values():
            path.mkdir()
            (path / "model.safetensors").write_bytes(b"weights" * number)
            (path / "config.json").write_bytes(b"{}")
        return Snapshot(number=number, step=4 * number, paths=paths)

    return write


def ignore(_: Unwritten) -> None: ...


class Slow:
    """Makes snapshots whole once it is let."""

    def __init__(self) -> None:
        self.begun, self.let = Event(), Event()
        self.whole = list[int]()

    def __call__(self, snapshot: Snapshot, _: BaseException | None = None) -> None:
        self.begun.set()
        assert self.let.wait(PATIENCE_S)
        for path in snapshot.paths.values():
            finish_checkpoint(path, trial="t001", number=snapshot.number, step=snapshot.step)
        self.whole.append(snapshot.number)


def test_who_saves_goes_on_while_snapshots_become_whole_and_then_waits_for_them(
    take: Callable[..., Snapshot],
):
    slow = Slow()
    with Snapshots(slow, ignore, Signals()) as snapshots:
        snapshots.put(first := take(1))
        snapshots.put(second := take(2, "best", "state"))
        snapshots.check()
        assert slow.whole == []
        slow.let.set()
    assert slow.whole == [1, 2]
    assert all(is_whole(path) for one in (first, second) for path in one.paths.values())


@pytest.mark.parametrize(
    ("waiting", "coming"),
    [(["best"], ["best"]), (["best"], ["best", "state"]), (["state"], ["state"])],
)
def test_a_snapshot_takes_the_place_of_one_that_waits(
    take: Callable[..., Snapshot], waiting: list[CheckpointKind], coming: list[CheckpointKind]
):
    slow = Slow()
    with Snapshots(slow, ignore, Signals()) as snapshots:
        snapshots.put(take(1))
        assert slow.begun.wait(PATIENCE_S)
        snapshots.put(replaced := take(2, *waiting))
        snapshots.make_room(set(coming))
        assert not any(path.exists() for path in replaced.paths.values())
        snapshots.put(take(3, *coming))
        slow.let.set()
    assert slow.whole == [1, 3]


def test_the_memory_of_a_snapshot_that_is_replaced_can_be_used_again(
    take: Callable[..., Snapshot],
):
    slow, dropped = Slow(), list[Unwritten]()
    with Snapshots(slow, dropped.append, Signals()) as snapshots:
        snapshots.put(take(1))
        assert slow.begun.wait(PATIENCE_S)
        snapshots.put(replaced := take(2))
        snapshots.make_room({"best"})
        slow.let.set()
    assert len(dropped) == 1
    assert dropped[0] is replaced.unwritten


@pytest.mark.parametrize(
    ("waiting", "coming"), [(["best"], ["state"]), (["best", "state"], ["best"])]
)
def test_a_save_waits_for_a_snapshot_whose_place_it_cannot_take(
    take: Callable[..., Snapshot],
    waiting: list[CheckpointKind],
    coming: list[CheckpointKind],
    caplog: pytest.LogCaptureFixture,
):
    """A trial that resumes the state could not save the best model from before it again."""
    slow = Slow()
    with caplog.at_level("INFO", "sweeps"), Snapshots(slow, ignore, Signals()) as snapshots:
        snapshots.put(take(1))
        assert slow.begun.wait(PATIENCE_S)
        snapshots.put(take(2, *waiting))
        slow.let.set()
        snapshots.make_room(set(coming))
        assert slow.whole[0] == 1
        snapshots.put(take(3, *coming))
    assert slow.whole == [1, 2, 3]


@pytest.mark.parametrize("at_the_end", [False, True])
def test_who_waits_for_a_snapshot_is_known_to_save(take: Callable[..., Snapshot], at_the_end: bool):
    signals, seen = Signals(), list[bool]()

    def make_whole(snapshot: Snapshot, _: BaseException | None) -> None:
        deadline = time.monotonic() + 1
        while snapshot.number == 1 and not signals.saving and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append(signals.saving)

    with Snapshots(make_whole, ignore, signals) as snapshots:
        snapshots.put(take(1))
        if not at_the_end:
            snapshots.put(take(2))
            snapshots.make_room({"state"})
            assert not signals.saving
    assert seen[0]
    assert not signals.saving
    assert signals.newest > 0, "from here on, steps are expected again"


def full(_: Snapshot) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def save(
    make_whole: Callable[[Snapshot], None], *taken: Snapshot, then: Exception | None = None
) -> None:
    """Take snapshots, then end as the training does."""
    with Snapshots(lambda snapshot, _: make_whole(snapshot), ignore, Signals()) as snapshots:
        for snapshot in taken:
            snapshots.put(snapshot)
        if then is not None:
            raise then


def test_what_a_snapshot_fails_with_is_raised_at_the_end(take: Callable[..., Snapshot]):
    with pytest.raises(OSError, match="No space left"):
        save(full, take(1))


def test_after_a_failure_nothing_becomes_whole(take: Callable[..., Snapshot]):
    """A state without the best model from before it would be resumed, and that model be lost."""
    whole = list[int]()

    def first_fails(snapshot: Snapshot) -> None:
        if snapshot.number == 1:
            full(snapshot)
        whole.append(snapshot.number)

    with pytest.raises(OSError, match="No space left"):
        save(first_fails, take(1), take(2, "state"))
    assert whole == []


def test_a_failure_is_raised_where_the_next_save_asks_for_room(take: Callable[..., Snapshot]):
    failed = Event()

    def fails(snapshot: Snapshot, _: BaseException | None) -> None:
        try:
            full(snapshot)
        finally:
            failed.set()

    snapshots = Snapshots(fails, ignore, Signals())
    snapshots.put(take(1))
    snapshots.put(take(2))
    assert failed.wait(PATIENCE_S)
    with pytest.raises(OSError, match="No space left"):
        snapshots.make_room({"state"})
    snapshots.__exit__(OSError, OSError(), None)


def test_what_training_raises_comes_first_and_what_was_saved_before_it_is_whole(
    take: Callable[..., Snapshot],
):
    whole = list[Snapshot]()
    with pytest.raises(ValueError, match="of the trial"):
        save(whole.append, first := take(1), then=ValueError("of the trial"))
    assert whole == [first]
    with pytest.raises(ValueError, match="of the trial"):
        save(full, take(2), then=ValueError("of the trial"))


FILES = {"model.safetensors": b"weights" * 9, "optimizer.pt": b"moments" * 9}


def write(file: Path) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT)
    for byte in FILES[file.name][:-1], FILES[file.name][-1:]:
        os.write(handle, byte)
    os.close(handle)


def test_a_kill_at_any_moment_of_a_write_leaves_no_snapshot_that_only_seems_whole(
    tmp_path: Path,
):
    """The process ends before each call that changes or flushes a file, in turn.

    HF has left the files of a state in host memory; its model is the best, too.
    """
    calls = ("fsync", "open", "write", "rename", "replace", "unlink", "chmod", "link")
    announced, kills = 0, 0
    while not announced:
        kills += 1
        folder = SweepFolder(tmp_path / str(kills))
        state = folder.path / "checkpoint-4"
        state.mkdir(parents=True)
        (state / "trainer_state.json").write_text("{}")
        unwritten = Unwritten([partial(write, state / name) for name in FILES])
        paths: dict[CheckpointKind, Path] = {"best": folder.path / "best-4", "state": state}
        snapshot = Snapshot(number=1, step=4, paths=paths, unwritten=unwritten)
        make_whole = partial(
            complete_snapshot, "t001", folder, ignore, Signals(), HostCopies(), failed=None
        )
        if (child := os.fork()) == 0:
            left = kills

            def killed(call: Callable[..., object]) -> Callable[..., object]:
                def counted(*args: object, **keywords: object) -> object:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        os._exit(9)
                    return call(*args, **keywords)

                return counted

            for name in calls:
                setattr(os, name, killed(getattr(os, name)))
            save(make_whole, snapshot)
            os._exit(0)
        announced = os.waitpid(child, 0)[1] == 0
        for kind, path in paths.items():
            assert is_whole(path) or not announced
            if is_whole(path):
                marker = json.loads((path / "checkpoint.json").read_text())
                assert marker["sha256"] == weights_sha256(path)
                wanted = FILES if kind == "state" else ["model.safetensors"]
                assert {name: (path / name).read_bytes() for name in wanted} == {
                    name: FILES[name] for name in wanted
                }
    assert kills > 20
