"""The line from a job to the sweep process: what it tells, and what it asks.

Used in a worker. It must not know where reports go or who answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sweeps.records.events import CheckpointSaved, SmokeMeasured
from sweeps.report import Report
from sweeps.workers.job import Reply


@dataclass(frozen=True, kw_only=True)
class Link:
    """The functions that a job calls."""

    report: Callable[[Report], None]
    """Called with rank 0's reports."""
    answer: Callable[[int], Reply]
    """Returns the decision on report `number`; blocks until there is one."""
    announce: Callable[[CheckpointSaved | SmokeMeasured], None]
    """Called with rank 0's event for each complete checkpoint, in a separate thread, and for what
    the smoke run measured."""
    name_step: Callable[[int], None]
    """Called with the step at which all ranks save; returns once all ranks know it."""
