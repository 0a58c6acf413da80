"""The warm worker groups: one `TorchTrainer` each, started, watched and replaced.

Runs in the sweep process, a thread a group. It must not know trials: the exchange tells which job
a lost group had.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

from sweeps.errors import SweepError, UserError
from sweeps.workers.causes import Loss
from sweeps.workers.size import Size

logger = logging.getLogger("sweeps")

COLLECTIVE_TIMEOUT_S = 1800
"""After this a rank that waits for a silent peer gives up."""
START_FAILURES = 3
"""A group that is lost so often in a row before it takes a job cannot start at all."""
LOOK_S = 2.0
"""Seconds between two looks at what the groups wait for, and at the nodes."""
MESSAGE = 300
"""Characters of what Ray says of a dead process that are kept."""
COMPLAIN_S = 60.0
"""Seconds between two lines about a group that cannot be placed."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the groups must know of the cluster, and whom they tell."""

    there: Callable[[frozenset[str]], bool]
    """Tells whether the nodes with these ids are there."""
    draining: Callable[[], frozenset[str]]
    """Returns the ids of the nodes that will go soon."""
    note: Callable[[str], None]
    """Takes a line for the user."""
    fault: Callable[[SweepError], None]
    """Takes why no group can go on."""
    variables: Mapping[str, str]
    """Environment variables of the workers, beyond the Ray job's own."""


@dataclass
class _Slot:
    """A place for one group at a time."""

    group: int = 0
    since: float = 0.0
    """Monotonic time when its group was asked for."""
    complained: float = 0.0
    waits: bool = False
    """Whether its group was asked for and has not ended."""
    failures: int = 0
    ended: bool = False


class WorkerGroups:
    """Keeps groups alive until they are told to finish.

    Args:
        count: Groups.
        size: Of each.
        exchange: Where they take their jobs.
        scratch: Folder for Ray Train's own files.
        surroundings: The cluster, and whom to tell.
        numbers: Gives each group its number.
        start_timeout: A group that is not there after this time is given up.
    """

    def __init__(
        self,
        count: int,
        size: Size,
        exchange: ActorHandle,
        scratch: Path,
        surroundings: Surroundings,
        numbers: Iterator[int],
        start_timeout: timedelta,
    ) -> None:
        self._size = size
        self._exchange = exchange
        self._scratch = scratch
        self._around = surroundings
        self._numbers = numbers
        self._start_timeout_s = start_timeout.total_seconds()
        self._closing = threading.Event()
        self._slots = [_Slot() for _ in range(count)]
        self._present: dict[int, frozenset[str]] = {}
        """Node ids of the groups whose workers are all there."""
        self._threads = [
            threading.Thread(target=self._keep, args=(slot,), name="group slot", daemon=True)
            for slot in self._slots
        ]
        self._watch = threading.Thread(target=self._look, name="group watch", daemon=True)

    def start(self) -> None:
        """Start all groups; returns at once."""
        for thread in (*self._threads, self._watch):
            thread.start()

    def let_go(self) -> None:
        """Start no more groups."""
        self._closing.set()

    def close(self, timeout_s: float) -> bool:
        """Wait for the groups to end after the exchange let them go; tell whether all have."""
        self.let_go()
        deadline = time.monotonic() + timeout_s
        for thread in (*self._threads, self._watch):
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _keep(self, slot: _Slot) -> None:
        """Keep one group alive; leaves the exchange's own death to its other users."""
        try:
            while not self._closing.is_set():
                # The first ones start at once; one that replaces another, when there is a job.
                slot.waits = False
                if slot.group and not ray.get(self._exchange.wants_group.remote()):
                    return
                slot.group, slot.since = next(self._numbers), time.monotonic()
                slot.complained, slot.waits = slot.since, True
                killed_before = _killed_for_memory()
                error = self._fit(slot.group)
                if self._closing.is_set():
                    return
                if error is None:  # it was told to end: it had grown, or workers are to be fresh
                    slot.failures = 0
                    ray.get(self._exchange.group_lost.remote(slot.group, Loss()))
                    continue
                loss = self._loss(slot.group, error, _killed_for_memory() > killed_before)
                had_job = ray.get(self._exchange.group_lost.remote(slot.group, loss))
                if not had_job and (fixable := _fixable(error)) is not None:
                    self._around.fault(fixable)
                    return
                slot.failures = 0 if had_job else slot.failures + 1
                if slot.failures == START_FAILURES:
                    slot.ended = True
                    if all(other.ended for other in self._slots):
                        self._around.fault(SweepError(f"no worker group can start: {error}"))
                    else:
                        self._around.note(f"a worker group cannot start: {error}")
                    return
        except ray.exceptions.RayActorError:
            return
        except Exception as error:
            if not self._closing.is_set():
                text = f"the sweep cannot go on: {type(error).__name__}: {error}"
                self._around.fault(SweepError(text))

    def _loss(self, group: int, error: Exception, killed_for_memory: bool) -> Loss:
        """Return what can be seen from here of a group that is lost."""
        failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
        said = {rank: _in_one_line(failure) for rank, failure in sorted(failures.items())}
        by_ray = any(words in line for words in _MEMORY_KILL for line in said.values())
        return Loss(
            died=said,
            node_gone=not self._around.there(self._present.get(group, frozenset())),
            memory_ran_out=killed_for_memory or by_ray,
        )

    def _look(self) -> None:
        """Say what groups wait for, and let those on a node that will go save at once."""
        warned: frozenset[str] = frozenset()
        while not self._closing.wait(LOOK_S):
            try:
                self._present |= ray.get(self._exchange.present.remote())
                if going := self._around.draining() - warned:
                    warned |= going
                    ray.get(self._exchange.nodes_drain.remote(going))
                    self._around.note(f"{len(going)} node(s) will go: their trials save now")
                for slot in self._slots:
                    self._complain(slot)
            except ray.exceptions.RayActorError:
                return
            except Exception:  # the cluster does not answer: the next look may be better
                logger.exception("the cluster does not answer")

    def _complain(self, slot: _Slot) -> None:
        now, pause_s = time.monotonic(), min(COMPLAIN_S, self._start_timeout_s)
        if slot.group in self._present and slot.failures < START_FAILURES:
            slot.ended = False
            return
        if slot.ended or not slot.waits or now - slot.complained < pause_s:
            return
        slot.complained = now
        text = f"group {slot.group} waits for its workers: {self._lacking()}"
        self._around.note(text)
        if now - slot.since >= self._start_timeout_s:
            slot.ended = True
            if all(other.ended for other in self._slots):
                self._around.fault(SweepError(f"no worker group could start in time; {text}"))

    def _lacking(self) -> str:
        """Say what the group needs and what the cluster has free."""
        free = ray.available_resources()
        size = self._size
        needs = {"CPU": float(size.cpus_per_worker), "GPU": size.gpus_per_worker}
        parts = [
            f"{size.workers * each:g} {name} needed, {free.get(name, 0.0):g} free"
            for name, each in needs.items()
            if each
        ]
        return "; ".join(parts)

    def _fit(self, group: int) -> Exception | None:
        """Run one group to its end; return what ended it, None for a good end."""

        def loop(config: dict[str, Any]) -> None:
            # Nested, so that it travels by value: a failing import is then an ordinary error of
            # the train function, and its placement group is freed (ray 2.60).
            from sweeps.workers.worker_loop import work

            work(config["exchange"], config["group"])

        size = self._size
        trainer = TorchTrainer(
            loop,
            train_loop_config={"exchange": self._exchange, "group": group},
            torch_config=TorchConfig(
                backend="nccl" if size.gpus_per_worker else "gloo",
                timeout_s=COLLECTIVE_TIMEOUT_S,
            ),
            scaling_config=ScalingConfig(
                num_workers=size.workers,
                use_gpu=size.gpus_per_worker > 0,
                resources_per_worker={
                    "CPU": size.cpus_per_worker,
                    **({"GPU": size.gpus_per_worker} if size.gpus_per_worker else {}),
                },
            ),
            run_config=RunConfig(
                name=f"group{group}",
                storage_path=str(self._scratch),
                worker_runtime_env={"env_vars": dict(self._around.variables)},
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            return error
        return None


_MEMORY_KILL = ("running low on memory", "OutOfMemoryError")
"""What Ray's memory monitor says (2.60)."""


def _in_one_line(failure: BaseException) -> str:
    """Return what Train says of a rank; of one that died, what Ray says of its process."""
    cause = getattr(failure, "health_check_failure", None) or failure
    text = " ".join(str(cause).split())
    why = re.search(r"The actor (is dead|died) because.*", text)
    return f"{type(cause).__name__}: {(why.group() if why else text)[:MESSAGE]}"


def _fixable(error: Exception) -> UserError | None:
    """Return what a worker refused to start with and the user can fix."""
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else ()
    return next((failure for failure in failures if isinstance(failure, UserError)), None)


def _killed_for_memory() -> int:
    """Return how many processes this machine's kernel has killed for want of memory."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
