"""Followers see everything in order, and none of them can hold a sweep up."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from sweeps import SearchSpace, SweepConfig
from sweeps.answer.answer import find_answer
from sweeps.driver import followers as module
from sweeps.driver.followers import Followers, SweepStart
from sweeps.driver.sweep import Outcome
from sweeps.planning.layout import Layout
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog, read_events
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.report import Report
from sweeps.schedulers.fifo import FIFO
from sweeps.workers.group_size import GroupSize
from tests.watching import Recorder

ROOT = Path(__file__).parents[2]
SPACE = SearchSpace(build_trainer=print, metric="eval_loss", mode="min", tuned={})
ANSWER = find_answer(History("eval_loss", "min"), "interrupted")


def start(folder: Path) -> SweepStart:
    return SweepStart(
        folder=SweepFolder(folder),
        space=SPACE,
        config=SweepConfig(),
        new_scheduler=lambda: FIFO(SPACE, SweepConfig()),
        layout=Layout(1, GroupSize(workers=1, cpus_per_worker=1, gpus_per_worker=0.0)),
        past=(),
        confirms=False,
    )


def events(count: int) -> list[ev.Event]:
    return [ev.SweepStarted(sweep=str(number)) for number in range(count)]


def report(number: int) -> Report:
    return Report(
        trial="t001",
        number=number,
        step=number,
        max_steps=800,
        epoch=0.1,
        metrics={"eval_loss": 1 / number},
        train_s=1.0,
        log_entries=(),
    )


def test_followers_are_called_in_order_in_one_thread_of_their_own(tmp_path: Path):
    threads = set()

    class Watched(Recorder):
        def event(self, event: ev.Event) -> None:
            super().event(event)
            threads.add(threading.current_thread())

    one, other = Watched(), Watched()
    happened, beginning = events(50), start(tmp_path)
    with Followers([one, other]) as followers:
        followers.note("before")
        followers.begin(beginning)
        log = EventLog(tmp_path / "events.jsonl", [followers.event])
        log.append(*happened)
        log.close()
        followers.end(lambda: ANSWER)
    for follower in (one, other):
        assert follower.notes == ["before"]
        assert follower.started == [beginning]
        assert follower.events == happened
        assert follower.answers == [ANSWER]
    assert threads == {followers.thread}
    assert not followers.thread.is_alive()


def test_the_end_of_a_sweep_that_never_began_is_not_told():
    follower = Recorder()
    with Followers([follower]) as followers:
        followers.end(lambda: ANSWER)
    assert follower.answers == []


def test_a_follower_that_raises_is_left_out_and_the_others_learn_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    class Breaks(Recorder):
        def event(self, event: ev.Event) -> None:
            super().event(event)
            raise ValueError("no such column")

    breaks, other = Breaks(), Recorder()
    with Followers([breaks, other]) as followers:
        followers.begin(start(tmp_path))
        for event in events(3):
            followers.event(event)
        followers.end(lambda: ANSWER)
    assert (len(breaks.events), breaks.answers) == (1, [])
    assert (len(other.events), other.answers) == (3, [ANSWER])
    said = "a follower failed (Breaks): ValueError: no such column"
    assert other.notes == [f"{said}; the sweep continues without it"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == said
    assert record.exc_info is not None


def test_nothing_waits_for_a_follower_that_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    goes_on = threading.Event()

    class Blocks(Recorder):
        def note(self, text: str) -> None:
            goes_on.wait()
            super().note(text)

    blocks = Blocks()
    path = tmp_path / "events.jsonl"
    with Followers([blocks]) as followers:
        followers.note("never read")
        followers.begin(start(tmp_path))
        log = EventLog(path, [followers.event])
        log.append(*events(100))
        followers.end(lambda: ANSWER)
    assert len(list(read_events(path))) == 100, "all is in the log, and the sweep has ended"
    assert (followers.thread.is_alive(), blocks.events) == (True, [])
    assert followers.thread.daemon, "the process ends without it"
    goes_on.set()
    followers.thread.join()
    assert (len(blocks.events), blocks.answers) == (100, [ANSWER]), "nothing was lost"
    log.close()


def test_followers_that_are_too_far_behind_see_no_event_after_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "QUEUED", 5)
    held, goes_on = threading.Event(), threading.Event()

    class Slow(Recorder):
        def begin(self, beginning: SweepStart) -> None:
            super().begin(beginning)
            held.set()
            goes_on.wait()

    slow = Slow()
    happened = events(9)
    with Followers([slow]) as followers:
        followers.begin(start(tmp_path))
        held.wait()
        for event in happened[:8]:
            followers.event(event)
        goes_on.set()
        followers.event(happened[8])
        followers.end(lambda: ANSWER)
    assert slow.events == happened[:5]
    assert slow.notes == ["not shown, because the output was read too slowly: 4 events"]
    assert slow.answers == [ANSWER]


def test_the_sweep_can_wait_until_all_is_told_so_far_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As before it leaves Ray: whatever ends the process then, the summary is there."""
    goes_on = threading.Event()

    class Stuck(Recorder):
        def note(self, text: str) -> None:
            goes_on.wait()
            super().note(text)

    stuck = Stuck()
    with Followers([stuck]) as followers:
        followers.begin(start(tmp_path))
        followers.end(lambda: ANSWER)
        followers.wait()
        assert stuck.answers == [ANSWER]
        monkeypatch.setattr(module, "PATIENCE_S", 0.05)
        followers.note("a last line")
        followers.wait()
        assert stuck.notes == []
        goes_on.set()
    followers.thread.join()
    assert stuck.notes == ["a last line"]


UNREAD = """
import sys
from sweeps import SweepConfig
from sweeps.cli import console, running
from sweeps.cli.main import main
from sweeps.driver import followers
from sweeps.driver.requests import new_request
from tests.driver.test_followers import play

followers.PATIENCE_S = console.STDERR_PATIENCE_S = 0.2
running.run_request = play
request = type("Request", (), {"loaded": type("Loaded", (), {"name": "curves"})})
request.config = SweepConfig(storage=sys.argv[1])
new_request.make_request = lambda *_, **__: request
sys.argv = ["sweeps", "run", "curves", "--address", "10.0.0.5:6379"]  # starts no process server
main()
"""


def play(request: Any, followers: list[Any]) -> Outcome:
    """A sweep without Ray: 800 reports of one trial, each printed as a line."""
    history = History("eval_loss", "min")
    folder = request.config.storage_folder / "curves-20261128-0900-k3f9"
    folder.mkdir()
    with Followers(followers) as watching:
        watching.begin(start(folder))
        log = EventLog(folder / "events.jsonl", [history.apply, watching.event])
        log.append(ev.SweepStarted(sweep=folder.name))
        log.append(ev.TrialSuggested(trial="t001", params={}, origin="searcher", seed=0))
        log.append(ev.JobStarted(trial="t001", attempt=1, group=1, devices=1))
        log.append(*(ev.Reported(report=report(number)) for number in range(1, 801)))
        watching.end(lambda: ANSWER)
        log.close()
    return Outcome(SweepFolder(folder), history, interrupted=False)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_process_ends_though_nobody_reads_its_output_or_it_cannot_be_written(tmp_path: Path):
    """At once: stdout is not read; nor stderr, which goes there, too; a terminal after Ctrl-S; a
    full disk; a stdout that is closed."""
    ours, terminal = pty.openpty()
    streams: dict[str, dict[str, Any]] = {
        "stdout": {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        "both": {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
        "terminal": {"stdout": terminal, "stderr": terminal, "stdin": terminal},
        "full": {"stdout": os.open("/dev/full", os.O_WRONLY), "stderr": subprocess.PIPE},
        "closed": {"stdout": None, "stderr": subprocess.PIPE},
    }
    processes = {}
    for name, given in streams.items():
        (tmp_path / name).mkdir()
        processes[name] = subprocess.Popen(
            [
                *(("sh", "-c", 'exec "$@" >&-', "sh") if given["stdout"] is None else ()),
                *(sys.executable, "-c", UNREAD, str(tmp_path / name)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1" if name == "both" else ""},
            text=True,
            **given,
        )
        if (pipe := processes[name].stdout) is not None:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 16384)  # full after some 500 reports
    while b"loading curves" not in os.read(ours, 1024):
        pass
    termios.tcflow(terminal, termios.TCOOFF)  # nothing has been started yet
    said = {}
    for name, process in processes.items():
        assert process.wait() == 0
        log = tmp_path / name / "curves-20261128-0900-k3f9" / "events.jsonl"
        assert len(list(read_events(log))) == 803
        if process.stdout is not None:
            read = process.stdout.read().splitlines()
            lines = [line for line in read if line.startswith("t001 ")]
            assert 0 < len(lines) < 800, "it was full"
        if process.stderr is not None:
            said[name] = process.stderr.read()
    assert said == {
        "stdout": (
            "nothing is reading stdout; to see the missed output, run: python -m sweeps results"
            f" curves --storage {tmp_path / 'stdout'}\n"
        ),
        "full": (
            "cannot write to stdout (No space left on device); the sweep continues without output\n"
        ),
        "closed": "cannot write to stdout (it is closed); the sweep continues without output\n",
    }
    for descriptor in (terminal, ours, streams["full"]["stdout"]):
        os.close(descriptor)
