"""Decides on each report: what the scheduler says, what overrules it, and what is saved.

Runs in the sweep process. It must not know the scheduler's algorithm, nor how decisions reach the
workers.
"""

from __future__ import annotations

import math

from sweeps.config import SweepConfig
from sweeps.driver.saving import saves_best, state_is_due
from sweeps.errors import SweepError
from sweeps.records.events import Decided, Decision, TrialResumed
from sweeps.records.history import History
from sweeps.report import Report
from sweeps.schedulers.base import Scheduler


class Decider:
    """Decides on reports, in log order.

    Args:
        config: Says how often states are saved, and how many best checkpoints are kept.
        history: Holds every report and decision so far, and later also the report to decide on.
        scheduler: A new scheduler; earlier decisions are replayed through it.
    """

    def __init__(self, config: SweepConfig, history: History, scheduler: Scheduler) -> None:
        self._config = config
        self._history = history
        self._scheduler = scheduler
        self.contradiction: str | None = None
        """Where the scheduler, given the recorded reports, first deviated from the recorded
        decisions."""
        reports = {(report.trial, report.number): report for report in history.reports}
        for event in history.decided:
            match event:
                case Decided(diverged=None):
                    self._replay_report(event, reports[event.trial, event.number])
                case TrialResumed():
                    self._replay_resumption(event)

    def _ask(self, report: Report) -> Decision:
        """Return the scheduler's decision; a trial without a value continues."""
        has_value = math.isfinite(report.metrics[self._history.metric])
        return self._scheduler.on_report(report) if has_value else "continue"

    def _replay_report(self, decided: Decided, report: Report) -> None:
        again = self._ask(report)
        overruled = report.is_last or decided.out_of_time
        if not overruled and again != decided.decision and self.contradiction is None:
            self.contradiction = (
                f"on report {decided.number} of {decided.trial}, the scheduler decided"
                f" {decided.decision}; given the same reports, it now decides {again}. Later"
                " decisions may differ from those of an uninterrupted sweep"
            )

    def _replay_resumption(self, resumed: TrialResumed) -> None:
        if (again := self._scheduler.resume_next()) != resumed.trial:
            raise SweepError(
                f"the scheduler resumed {resumed.trial}, but given the same reports, it now resumes"
                f" {again or 'no trial'}; the sweep cannot be resumed. A scheduler's decisions must"
                " depend only on the reports"
            )

    def decide(self, report: Report, *, out_of_time: bool) -> Decided:
        """Return the decision on a report.

        Args:
            report: The report, which the history has just taken in.
            out_of_time: Whether the time budget is used up.
        """
        diverged = report.non_finite(self._history.metric)
        if diverged is not None:
            return Decided(
                trial=report.trial,
                number=report.number,
                decision="stop",
                save_best=False,
                save_state=False,
                diverged=diverged,
            )
        decision = self._ask(report)
        out_of_time = out_of_time and not report.is_last and decision != "stop"
        if report.is_last:
            decision = "continue"  # it has finished, even if a rung at its end says otherwise
        elif out_of_time:
            decision = "stop"
        due = decision == "pause" or (
            decision == "continue"
            and not report.is_last
            and state_is_due(report, self._history, self._config.resume_every)
        )
        return Decided(
            trial=report.trial,
            number=report.number,
            decision=decision,
            save_best=saves_best(report, self._history, self._config.keep_checkpoints),
            save_state=due,
            out_of_time=out_of_time,
        )

    def resume_next(self) -> TrialResumed | None:
        """Return the paused trial to resume now, if any."""
        trial = self._scheduler.resume_next()
        return None if trial is None else TrialResumed(trial=trial)
