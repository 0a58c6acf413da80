"""How much of its GPU a job uses: the fraction of time that it is busy, and the peak memory.

Runs in a worker, in a separate thread. It must not know what the measurement is used for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pynvml
import torch

from sweeps.records.events import GpuMeasured
from sweeps.workers.job import SMOKE, Job
from sweeps.workers.signals import Signals

STEPS = 3
"""Number of optimizer steps before the measurement: the first ones load kernels and compile."""
SETTLES_S = 1.0
"""Seconds after which NVML's latest value covers only steps: it looks back up to one second."""
SAMPLES = 10
PAUSE_S = 0.1
"""Seconds between two samples."""


class GpuUse:
    """Measures one trial of this process.

    Args:
        tell: Called with what was measured.
    """

    def __init__(self, tell: Callable[[GpuMeasured], None]) -> None:
        self._tell = tell
        self._told = False

    @contextmanager
    def of(self, job: Job, signals: Signals) -> Iterator[None]:
        """Measure a job while it trains, unless a job was measured before."""
        over = threading.Event()
        args = (job, signals, over)
        thread = threading.Thread(target=self._measure, args=args, name="gpu use", daemon=True)
        if not self._told and job.trial != SMOKE:
            thread.start()
        try:
            yield
        finally:
            over.set()
            if thread.ident is not None:
                thread.join()

    def _measure(self, job: Job, signals: Signals, over: threading.Event) -> None:
        first: int | None = None
        while first is None or signals.step < first + STEPS:
            if over.wait(PAUSE_S):
                return
            if first is None and signals.step > 0:
                first = signals.step
        if over.wait(SETTLES_S):
            return
        busy: list[float] = []
        while len(busy) < SAMPLES:
            if over.wait(PAUSE_S):
                return
            if signals.phase == "training" and not signals.waiting:
                if (now := _busy()) is None:
                    break
                busy.append(now)
        self._told = True
        self._tell(
            GpuMeasured(
                trial=job.trial,
                busy=sum(busy) / len(busy) if busy else None,
                memory=most_memory(),
                total=torch.cuda.mem_get_info()[1],
            )
        )


def most_memory() -> int:
    """Return the peak number of bytes in use on this GPU during the job so far."""
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved()


def _busy() -> float | None:
    """Return the fraction of recent time in which the GPU was busy.

    None if NVML does not report it: the driver may not support it, and a slice of a GPU (MIG) has
    no such value.
    """
    with suppress(RuntimeError, pynvml.NVMLError):
        return torch.cuda.utilization() / 100
    return None
