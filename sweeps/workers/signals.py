"""What the main thread of a worker and its watch tell each other.

Plain state in each worker. It must not know what is trained, or who orders a save.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sweeps.records.events import Phase
from sweeps.report import LogEntry
from sweeps.workers.messages import LeftBy


@dataclass
class Signals:
    """State that is shared by the main thread of a worker and its watch."""

    newest: float = 0.0
    """Monotonic time of the latest sign of life."""
    phase: Phase = "training"
    """What the trainer is doing."""
    step: int = 0
    """Optimizer steps done; 0 before the trainer runs."""
    max_steps: int = 0
    """Optimizer steps of the complete trial."""
    rows_per_step: int = 0
    """Train rows per step, over all workers."""
    log_entry: LogEntry | None = None
    """The latest line of the training log."""
    waiting: bool = False
    """Whether the main thread is waiting for a decision."""
    saving: bool = False
    """Whether the main thread is writing a checkpoint, or waiting for one."""
    name_a_step: bool = False
    """Whether rank 0 must name a step at which all ranks save."""
    save_at: int | None = None
    """Optimizer step after which this rank saves and leaves its job, unless it is the last step."""
    left_by: LeftBy = "done"
    """Why the rank leaves its job."""

    def alive(self) -> None:
        """Record a sign of life."""
        self.newest = time.monotonic()

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Within the context, no step is expected."""
        self.waiting = True
        try:
            yield
        finally:
            self.alive()
            self.waiting = False

    @contextmanager
    def save(self) -> Iterator[None]:
        """Within the context, no step is expected for `SAVE_S` of `watch.py`."""
        before, self.saving = self.saving, True
        try:
            yield
        finally:
            self.alive()
            self.saving = before
