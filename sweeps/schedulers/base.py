"""The scheduler contract: decides on each report, and which paused trial continues.

Pure; runs in the sweep process, `plan` and `report`. It must not know about any scheduler or what
is saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sweeps.records.events import Decision
from sweeps.report import Report


class Scheduler(Protocol):
    """Decides on the reports of one sweep, in log order.

    All answers must depend only on the reports and resumptions so far, not on clocks or unseeded
    draws. A resume creates a new scheduler and replays the log through it.
    """

    def rungs(self) -> Sequence[float]:
        """Return the fractions of a trial at which it may stop or pause, ascending, in (0, 1)."""

    def on_report(self, report: Report) -> Decision:
        """Observe a report and return what its trial does next.

        The judged metric and the losses are finite. The sweep ignores the answer at the end of a
        trial (progress 1) and when the time budget is used up.
        """

    def resume_next(self) -> str | None:
        """Return the id of the paused trial that continues now, or None.

        Called whenever a trial could start, before a new trial is suggested. Each trial is returned
        once per pause. A call that returns None must not change anything. Trials that are still
        paused when nothing is running and no new trial can start are ended as stopped early.
        """
