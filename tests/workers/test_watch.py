"""A worker's watch, in a process that it may end; no Ray: the exchange is a thread of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sweeps.workers.watch import stands_in_library

# The real exchange, called over an event loop.
SETTING = """
import asyncio, sys, threading
from pathlib import Path
from sweeps.records.folder import SweepFolder
from sweeps.workers import watch as module
from sweeps.workers.exchange import Exchange
from sweeps.workers.job import Definition, Job
from sweeps.workers.messages import Member

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

class Method:
    def __init__(self, method):
        self.method = method

    def remote(self, *arguments):
        return asyncio.run_coroutine_threadsafe(self.method(*arguments), loop)

class Handle:
    def __init__(self, actor):
        self.actor = actor

    def __getattr__(self, name):
        return Method(getattr(self.actor, name))

def get(future, timeout=60):
    try:
        return future.result(timeout)
    except TimeoutError as error:
        raise module.ray.exceptions.GetTimeoutError from error

module.ray.get = get
logs, stall_timeout_s = Path(sys.argv[1]), float(sys.argv[2])
definition = Definition(
    space=b"", folder=SweepFolder(logs), workers=2, gpu=False, measures_gpu=False,
    fresh_workers=False, started_in=Path.cwd(), stall_timeout_s=stall_timeout_s, secrets={},
)
exchange = Handle(Exchange(definition, 2))
watches = [module.Watch(exchange, 1, rank, logs, stall_timeout_s) for rank in (0, 1)]
for rank in (0, 1):
    get(exchange.hello.remote(1, rank, Member(node=f"node{rank}", gpu=None, memory_kills=0)))
get(exchange.submit.remote(Job(trial="t001", attempt=3, params={}, seed=0, checkpoint=None), {}))
never = threading.Event()

def wait_for(condition):
    while not condition():
        never.wait(0.01)
"""
TINY_S, LONG_S = 0.2, 600.0


def run(
    script: str, logs: Path, stall_timeout_s: float = LONG_S
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-u", "-c", SETTING + script, str(logs), str(stall_timeout_s)],
        capture_output=True,
        text=True,
        timeout=60,
    )


SILENT = """
for watch in watches:
    watch.start()

def in_a_collective():
    never.wait()

def waits_at_a_gate():
    job = get(exchange.next_job.remote(1, 0))
    with watches[0].over(job) as signals, signals.wait():
        never.wait()

threading.Thread(target=waits_at_a_gate, daemon=True).start()
with watches[1].over(get(exchange.next_job.remote(1, 0))):
    in_a_collective()
"""


def test_every_rank_of_a_job_without_steps_writes_down_where_its_threads_stand_and_ends(
    tmp_path: Path,
):
    ended = run(SILENT, tmp_path, TINY_S)
    assert ended.returncode == 1, ended.stderr
    names = [f"t001-attempt3-rank{rank}.stacks" for rank in (0, 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        stacks = (tmp_path / name).read_text()
        assert "in in_a_collective" in stacks, "the main thread"
        assert "in waits_at_a_gate" in stacks, "another one"


ALONE = """
module.DUMP_S = 0.1
watches[0].start()
with watches[0].over(get(exchange.next_job.remote(1, 0))):
    never.wait()
"""


def test_a_stalled_rank_does_not_wait_for_ever_for_one_that_cannot_write(tmp_path: Path):
    ended = run(ALONE, tmp_path, TINY_S)
    assert ended.returncode == 1, ended.stderr
    assert (tmp_path / "t001-attempt3-rank0.stacks").stat().st_size > 0


def test_a_stalled_rank_ends_although_its_stacks_cannot_be_written(tmp_path: Path):
    ended = run(ALONE, tmp_path / "gone", TINY_S)
    assert ended.returncode == 1, ended.stderr


# `_look` arms this timer at each look: it counts the looks here.
PATIENT = """
module.LOOK_S = 0.02
looks = threading.Semaphore(0)
module.faulthandler.dump_traceback_later = lambda *_, **__: looks.release()

def after_some_looks():
    while looks.acquire(blocking=False):
        pass
    for _ in range(6):
        looks.acquire()

def stalled():
    return exchange.actor._running[1].stalled

watch = watches[0]
job = get(exchange.next_job.remote(1, 0))
watch.signals.newest = float("-inf")
watch.start()
after_some_looks()
print("between jobs:", stalled())
with watch.over(job) as signals:
    with signals.wait():
        signals.newest = float("-inf")
        after_some_looks()
        print("at a gate:", stalled())
    after_some_looks()
    print("with steps to come:", stalled())
"""


def test_nobody_stalls_between_jobs_or_where_a_decision_is_waited_for(tmp_path: Path):
    # A long time without a step has passed in each, but not since the decision came.
    ended = run(PATIENT, tmp_path)
    assert ended.stdout.splitlines() == [
        "between jobs: None",
        "at a gate: None",
        "with steps to come: None",
    ], ended.stderr
    assert ended.returncode == 0


SAVING = """
module.LOOK_S, module.SAVE_S = 0.02, 1.0
watch = watches[0]
watch.start()
with watch.over(get(exchange.next_job.remote(1, 0))) as signals:
    with signals.save():
        never.wait(0.6)
        print("while it saves:", exchange.actor._running[1].stalled, flush=True)
        never.wait()
"""


def test_who_saves_may_take_longer_but_not_for_ever(tmp_path: Path):
    ended = run("module.DUMP_S = 0.1" + SAVING, tmp_path, TINY_S)
    assert ended.stdout.splitlines() == ["while it saves: None"], ended.stderr
    assert ended.returncode == 1, ended.stderr


FROZEN = """
import ctypes
module.FROZEN_S = 0.2
armed, arm = threading.Event(), module.faulthandler.dump_traceback_later

def remembering(*arguments, **keywords):
    arm(*arguments, **keywords)
    armed.set()

module.faulthandler.dump_traceback_later = remembering

def holds_the_interpreter():
    ctypes.PyDLL(None).pause()

watches[0].start()
armed.wait()
holds_the_interpreter()
"""


def test_a_process_in_which_no_thread_can_run_any_more_ends_and_says_where(tmp_path: Path):
    ended = run(FROZEN, tmp_path, TINY_S)
    assert ended.returncode == 1, ended.stderr
    assert "in holds_the_interpreter" in ended.stderr


REPLACED = """
module.DUMP_S = 0.1
looked, arm = threading.Semaphore(0), module.faulthandler.dump_traceback_later

def counted(*arguments, **keywords):
    arm(*arguments, **keywords)
    looked.release()

module.faulthandler.dump_traceback_later = counted
watches[0].start()
looked.acquire()
sys.stderr = {new}
with watches[0].over(get(exchange.next_job.remote(1, 0))):
    never.wait()
"""


@pytest.mark.parametrize("new", ["None", "io.StringIO()", "object()"])
def test_a_job_that_replaces_sys_stderr_is_still_watched(tmp_path: Path, new: str):
    ended = run("import io" + REPLACED.replace("{new}", new), tmp_path, TINY_S)
    assert ended.returncode == 1, ended.stderr
    assert (tmp_path / "t001-attempt3-rank0.stacks").stat().st_size > 0


FAULTY = """
import logging
logging.basicConfig()
news = module._Said.news

def faulty(*arguments):
    module._Said.news = news
    raise ValueError("a fault of the watch")

module._Said.news = faulty
module.DUMP_S = 0.1
watches[0].start()
with watches[0].over(get(exchange.next_job.remote(1, 0))):
    never.wait()
"""


def test_a_fault_of_the_watch_is_logged_and_it_watches_on(tmp_path: Path):
    ended = run(FAULTY, tmp_path, TINY_S)
    assert ended.returncode == 1, ended.stderr
    assert "ValueError: a fault of the watch" in ended.stderr
    assert (tmp_path / "t001-attempt3-rank0.stacks").stat().st_size > 0


DRAINED = """
for watch in watches:
    watch.start()
job = get(exchange.next_job.remote(1, 0))
with watches[0].over(job) as first, watches[1].over(job) as second:
    get(exchange.drain_nodes.remote(["node1"]))
    wait_for(lambda: first.name_a_step)
    print(second.name_a_step)
    get(exchange.save_at.remote(1, 7))
    print(first.save_at, second.save_at)
with watches[0].over(job) as other:
    print(other.save_at, other.name_a_step)
"""


def test_all_ranks_know_the_step_to_save_at_when_rank_0_has_named_it(tmp_path: Path):
    ended = run(DRAINED, tmp_path)
    assert ended.stdout.split() == ["False", "7", "7", "None", "False"], ended.stderr


EARLY = """
job = get(exchange.next_job.remote(1, 0))
get(exchange.drain_nodes.remote(["node1"]))
watches[0].start()
wait_for(lambda: watches[0].signals.name_a_step)
with watches[0].over(job) as signals:
    print(signals.name_a_step)
"""


def test_an_order_that_comes_before_the_worker_has_begun_its_job_is_kept(tmp_path: Path):
    ended = run(EARLY, tmp_path)
    assert ended.stdout.split() == ["True"], ended.stderr


LOST = """
class Dead:
    def __getattr__(self, name):
        raise module.ray.exceptions.ActorDiedError

module.Watch(Dead(), 1, 0, logs, stall_timeout_s).start()
never.wait()
"""


def test_a_worker_without_an_exchange_ends(tmp_path: Path):
    ended = run(LOST, tmp_path)
    assert ended.returncode == 1, ended.stderr


def test_a_rank_that_waits_in_a_training_library_is_told_from_one_in_other_code():
    def stands(module: str) -> bool:
        there, go_on = threading.Lock(), threading.Lock()
        there.acquire()
        go_on.acquire()
        code = {"__name__": module, "there": there, "go_on": go_on}
        exec("def stand(): there.release(); go_on.acquire()", code)
        thread = threading.Thread(target=code["stand"])
        thread.start()
        there.acquire()
        try:
            return stands_in_library(thread.ident or 0)
        finally:
            go_on.release()
            thread.join()

    assert stands("torch.autograd.graph")
    assert stands("transformers.trainer")
    assert stands("sweeps.workers.worker_loop"), "which has ranks agree, too"
    assert not stands("my_space")
    assert not stands("torchvision.models")
    assert not stands_in_library(0), "no such thread"
