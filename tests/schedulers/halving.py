"""A scheduler that pauses and promotes: synchronous successive halving, in brackets of four.

Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization". Each trial pauses at a rung; once the whole bracket has, the better half goes on.
"""

from __future__ import annotations

from sweeps.records.events import Decision
from sweeps.report import Mode, Report

BRACKET = 4
RUNGS = (0.25, 0.5)


class Halving:
    def __init__(self, metric: str, mode: Mode) -> None:
        self._metric = metric
        self._sign = 1 if mode == "max" else -1
        self._places: dict[str, tuple[int, int]] = {}
        """Bracket and next rung of each trial."""
        self._values: dict[tuple[int, int], dict[str, float]] = {}
        self._promoted: list[str] = []

    def rungs(self) -> tuple[float, ...]:
        return RUNGS

    def on_report(self, report: Report) -> Decision:
        new = (len(self._places) // BRACKET, 0)
        bracket, rung = self._places.setdefault(report.trial, new)
        if rung == len(RUNGS) or report.progress < RUNGS[rung]:
            return "continue"
        self._places[report.trial] = (bracket, rung + 1)
        values = self._values.setdefault((bracket, rung), {})
        values[report.trial] = self._sign * report.metrics[self._metric]
        if len(values) == BRACKET // 2**rung:
            best = sorted(values, key=lambda trial: -values[trial])
            self._promoted += best[: len(values) // 2]
        return "pause"

    def resume_next(self) -> str | None:
        return self._promoted.pop(0) if self._promoted else None
