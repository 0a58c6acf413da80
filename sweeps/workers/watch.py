"""A worker's watch: carries out the exchange's orders, and reports a stall.

Two daemon threads in each worker, beside the main thread that trains. It must not know what is
trained: the gate signals each step, and reads from `Signals` what it has to do.
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.actor import ActorHandle

from sweeps.records.events import Phase
from sweeps.workers.job import Job, LeftBy, Order

LOOK_S = 5.0
"""Longest pause between two checks for a stall, in seconds."""
DUMP_S = 10.0
"""Seconds for the ranks of a stalled group to write their stacks."""
FROZEN_S = 60.0
"""Seconds after a stall when a process ends in which no Python thread gets to run."""


@dataclass
class Signals:
    """State that the main thread of a worker and its watch share."""

    newest: float = 0.0
    """Monotonic time of the newest sign of life."""
    phase: Phase = "training"
    """What the trainer is doing."""
    waiting: bool = False
    """Whether the main thread waits for a decision."""
    name_a_step: bool = False
    """Whether rank 0 must name a step at which all ranks save."""
    save_at: int | None = None
    """Optimizer step at whose end this rank saves and leaves its job, if that is not its last."""
    left_by: LeftBy = "done"
    """Why the rank leaves its job."""

    def alive(self) -> None:
        """Record a sign of life."""
        self.newest = time.monotonic()

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Mark a time in which no step can come."""
        self.waiting = True
        try:
            yield
        finally:
            self.alive()
            self.waiting = False


class Watch:
    """Watches over one worker process from its start to its end.

    Args:
        exchange: Gives the orders, and takes the word of a stall.
        group: The worker's group.
        rank: The worker's rank.
        logs: Folder for the stacks of a stalled worker.
        stall_timeout_s: A job without a step for this long is stalled.
    """

    def __init__(
        self, exchange: ActorHandle, group: int, rank: int, logs: Path, stall_timeout_s: float
    ) -> None:
        self.signals = Signals()
        self._exchange = exchange
        self._group = group
        self._rank = rank
        self._logs = logs
        self._stall_timeout_s = stall_timeout_s
        self._job: Job | None = None

    def start(self) -> None:
        """Start watching."""
        for watching in (self._obey, self._look):
            threading.Thread(target=watching, name=watching.__name__, daemon=True).start()

    @contextmanager
    def over(self, job: Job) -> Iterator[Signals]:
        """Watch over a job."""
        self.signals.alive()
        self._job = job
        try:
            yield self.signals
        finally:
            self._job = None
            self.signals = Signals()  # here: an order may come before its job begins

    def _obey(self) -> None:
        """Carry out orders; end the process where that is one, or where there is no exchange.

        The main thread may be in a collective that no Python code can leave.
        """
        with suppress(ray.exceptions.RayError, OSError):  # stacks that cannot be written
            done: frozenset[Order] = frozenset()
            while True:
                order = ray.get(self._exchange.next_order.remote(self._group, self._rank, done))
                done |= {order}
                match order.what:
                    case "end":
                        break
                    case "dump":
                        self._dump()
                        ray.get(self._carried_out(order), timeout=DUMP_S)
                        break
                    case "name a step":
                        self.signals.name_a_step = True
                    case "save":
                        self.signals.save_at = order.step
                        ray.get(self._carried_out(order))
        os._exit(1)

    def _carried_out(self, order: Order) -> ray.ObjectRef[None]:
        told: ray.ObjectRef[None] = self._exchange.carried_out.remote(
            self._group, self._rank, order
        )
        return told

    def _dump(self) -> None:
        job = self._job
        name = f"{job.trial}-attempt{job.attempt}" if job else f"group{self._group}"
        with (self._logs / f"{name}-rank{self._rank}.stacks").open("w") as stacks:
            faulthandler.dump_traceback(stacks, all_threads=True)

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            # For a main thread that never lets another one run; writes to the worker's log.
            faulthandler.dump_traceback_later(self._stall_timeout_s + FROZEN_S, exit=True)
            pause.wait(min(LOOK_S, self._stall_timeout_s / 4))
            signals = self.signals
            if self._job is None or signals.waiting:
                continue
            silent_s = time.monotonic() - signals.newest  # read last: it is set before the others
            if silent_s > self._stall_timeout_s:
                with suppress(ray.exceptions.RayError):  # `_obey` sees to a lost exchange
                    message = f"rank {self._rank}: no step for {silent_s:.0f} s"
                    ray.get(self._exchange.stalled.remote(self._group, message))
