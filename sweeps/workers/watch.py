"""A worker's watch: carries out the exchange's orders, and reports progress and stalls.

Two daemon threads in each worker, next to the main thread that trains. It must not know what is
trained: the gate signals each step, and reads from `Signals` what to do.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray.actor import ActorHandle

from sweeps.report import Steps
from sweeps.workers.job import SMOKE, Job, Order
from sweeps.workers.signals import Signals

LOOK_S = 5.0
"""Maximum time between two checks of a worker, in seconds."""
DUMP_S = 10.0
"""Seconds that the ranks of a stalled group have to write their stacks."""
LIBRARIES = ("torch", "transformers", "accelerate", "sweeps")
"""Packages in whose code a rank waits for others."""
FROZEN_S = 60.0
"""A process in which no Python thread can run is ended this many seconds after a stall."""
SAVE_S = 3600.0
"""Seconds that writing or uploading checkpoints may take, in addition to the stall timeout."""
LOG = 2
"""File descriptor of the worker's log; a job may have replaced `sys.stderr`."""

logger = logging.getLogger("sweeps")


class Watch:
    """Watches over one worker process from its start to its end.

    Args:
        exchange: Gives the orders, and is told about a stall.
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
        self._thread = 0
        """The thread that trains."""

    def start(self) -> None:
        """Start watching."""
        for watching in (self._obey, self._look):
            threading.Thread(target=watching, name=watching.__name__, daemon=True).start()

    @contextmanager
    def over(self, job: Job) -> Iterator[Signals]:
        """Within the context, watch a job."""
        self.signals.alive()
        self._thread, self._job = threading.get_ident(), job
        try:
            yield self.signals
        finally:
            self._job = None
            # Reset here and not at the start, since an order may arrive before its job begins.
            self.signals = Signals()

    def _obey(self) -> None:
        """Carry out orders; end the process if ordered to, or if the exchange is gone.

        The main thread may be in a collective that no Python code can leave.
        """
        with suppress(ray.exceptions.RayError, OSError):  # OSError: no stacks written
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
        said = _Said()
        while True:
            # In case the main thread never lets another thread run.
            frozen_s = self._stall_timeout_s + FROZEN_S
            faulthandler.dump_traceback_later(frozen_s, exit=True, file=LOG)
            pause.wait(min(LOOK_S, self._stall_timeout_s / 4))
            try:
                self._look_once(said)
            except ray.exceptions.RayError:
                pass  # `_obey` handles a lost exchange
            except Exception:  # without this thread, the timer would end the process
                logger.exception("the check for a stall failed; it goes on")

    def _look_once(self, said: _Said) -> None:
        """Report how far the job is, and whether it has stalled."""
        signals, job = self.signals, self._job
        if job is None or signals.waiting:
            return
        if self._rank == 0 and job.trial != SMOKE and (steps := said.news(job, signals)):
            self._exchange.steps.remote(self._group, steps)
        limit_s = self._stall_timeout_s + (SAVE_S if signals.saving else 0)
        # Read last, since `Signals.wait` and `Signals.save` set it before they reset the others.
        silent_s = time.monotonic() - signals.newest
        if silent_s > limit_s:
            message = (
                f"rank {self._rank}: no optimizer step or evaluation batch for {silent_s:.0f} s"
            )
            stall = (self._group, self._rank, message, stands_in_library(self._thread))
            ray.get(self._exchange.stalled.remote(*stall))


def stands_in_library(thread: int) -> bool:
    """Tell whether a thread is in one of `LIBRARIES`, where it may be waiting for others.

    Such a library calls C code that waits for a collective, or for work on a GPU to finish. A rank
    that hangs in the user's code, or reads rows, is elsewhere.
    """
    frame = sys._current_frames().get(thread)
    return frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in LIBRARIES


class _Said:
    """How far the job was at the last check."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._at = (0, False)
        self._time = 0.0

    def news(self, job: Job, signals: Signals) -> Steps | None:
        """Return how far the job is; None if nothing has changed since the last check."""
        now, at = time.monotonic(), (signals.step, signals.phase == "evaluation")
        if signals.step == 0 or (self._job is job and at == self._at):
            return None
        rows_per_s = None
        if self._job is job and signals.step > self._at[0]:
            rows = (signals.step - self._at[0]) * signals.rows_per_step
            rows_per_s = rows / (now - self._time)
        self._job, self._at, self._time = job, at, now
        return Steps(
            trial=job.trial,
            step=signals.step,
            max_steps=signals.max_steps,
            evaluating=signals.phase == "evaluation",
            rows_per_s=rows_per_s,
            newest=signals.log_entry,
        )
