"""The contract of a scheduler: decides on each report, and which paused trial continues.

Pure; runs in the sweep process and in `plan`. It must not know any scheduler, nor what is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sweeps.records.events import Decision
from sweeps.report import Report


class Scheduler(Protocol):
    """Decides on the reports of one sweep, in log order.

    All answers must depend only on the reports and resumptions so far: no clock, no unseeded draw.
    A resume makes a new scheduler and replays the log through it.
    """

    def rungs(self) -> Sequence[float]:
        """Return the shares of a trial at which it may stop or pause, ascending, in (0, 1)."""

    def on_report(self, report: Report) -> Decision:
        """Observe a report and return what its trial does next.

        The judged metric and the losses are finite. At the end of a trial (progress 1) and when
        the time budget is used up the sweep ignores the answer.
        """

    def resume_next(self) -> str | None:
        """Return the id of the paused trial that continues now, or None.

        Called whenever a trial could start, before a new one is suggested. Each trial is returned
        once for each pause. A call that returns None must not change anything. Trials that are
        still paused when nothing runs and no new trial can start end as stopped early.
        """
