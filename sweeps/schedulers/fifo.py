"""FIFO: every trial runs to its end.

Pure; runs in the sweep process, `plan` and `report`. It must not know about any trial.
"""

from __future__ import annotations

from sweeps.config import SweepConfig
from sweeps.records.events import Decision
from sweeps.report import Report
from sweeps.space.search_space import SearchSpace


class FIFO:
    """Never stops or pauses a trial."""

    def __init__(self, space: SearchSpace, config: SweepConfig) -> None:
        pass

    def rungs(self) -> tuple[float, ...]:
        """Return no rungs."""
        return ()

    def on_report(self, report: Report) -> Decision:
        """Let the trial continue."""
        return "continue"

    def resume_next(self) -> str | None:
        """Return None: no trial is paused."""
        return None
