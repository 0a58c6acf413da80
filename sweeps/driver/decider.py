"""The decision on each report: what the scheduler says, what overrules it, and what is saved.

Runs in the sweep process. It must not know the scheduler's algorithm, nor how decisions reach the
workers.
"""

from __future__ import annotations

from sweeps.config import SweepConfig
from sweeps.driver.saving import saves_best, state_is_due
from sweeps.errors import SweepError
from sweeps.records.events import Decided, TrialResumed
from sweeps.records.history import History
from sweeps.report import Report
from sweeps.schedulers.base import Scheduler


class Decider:
    """Decides on reports, in log order.

    Args:
        config: How often states are saved, and how many bests are kept.
        history: Holds every report and decision so far, later the report to decide on as well.
        scheduler: A new one; what was decided before is replayed through it.
    """

    def __init__(self, config: SweepConfig, history: History, scheduler: Scheduler) -> None:
        self._config = config
        self._history = history
        self._scheduler = scheduler
        reports = {(report.trial, report.number): report for report in history.reports}
        for event in history.decided:
            match event:
                case Decided(diverged=None):
                    scheduler.on_report(reports[event.trial, event.number])
                case TrialResumed():
                    self._replay(event)

    def _replay(self, resumed: TrialResumed) -> None:
        if (again := self._scheduler.resume_next()) != resumed.trial:
            raise SweepError(
                f"the scheduler resumed {resumed.trial}, and on the same reports now {again}: its"
                " answers must follow from the reports alone"
            )

    def decide(self, report: Report, *, out_of_time: bool) -> Decided:
        """Return the decision on a report.

        Args:
            report: Just taken in by the history.
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
        decision = self._scheduler.on_report(report)
        if report.progress >= 1:
            decision = "continue"  # it has finished, whatever a rung at its end would say
        elif out_of_time:
            decision = "stop"
        due = decision == "pause" or (
            decision == "continue"
            and report.progress < 1
            and state_is_due(report, self._history, self._config.resume_every)
        )
        return Decided(
            trial=report.trial,
            number=report.number,
            decision=decision,
            save_best=saves_best(report, self._history, self._config.keep_checkpoints),
            save_state=due,
        )

    def resume_next(self) -> TrialResumed | None:
        """Return the paused trial that is resumed now, if any."""
        trial = self._scheduler.resume_next()
        return None if trial is None else TrialResumed(trial=trial)
