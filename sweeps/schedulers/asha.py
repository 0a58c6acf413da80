"""Who is stopped and what is saved: the decision on each report.

Runs in the sweep process. It must not know how decisions reach the workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from sweeps.config import SweepConfig
from sweeps.records.events import Decided
from sweeps.records.history import History
from sweeps.report import Report


@dataclass(frozen=True)
class _StubTrial:
    """All that Ray's ASHA reads of a trial."""

    trial_id: str


class Decider:
    """Decides on reports, in the order in which they stand in the log.

    ASHA: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", section 3; Ray's
    implementation, with progress for time and one bracket.

    Args:
        config: Scheduler, rungs, what is kept.
        history: Holds every report and decision so far, later the one to decide on as well. What
            is decided already is replayed, which gives ASHA its rungs back.
    """

    def __init__(self, config: SweepConfig, history: History) -> None:
        self._config = config
        self._history = history
        self._asha = ASHAScheduler(
            time_attr="progress",
            metric=history.metric,
            mode=history.mode,
            max_t=1.0,
            grace_period=config.first_rung,
            reduction_factor=config.reduction_factor,
            brackets=1,
            # True would stop a full-length trial at its last report (ray 2.60).
            stop_last_trials=False,
        )
        self._known: set[str] = set()
        for report in history.reports:
            decided = history.trials[report.trial].decisions.get(report.number)
            if decided is not None and decided.diverged is None:
                self._asha_stops(report)

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
                stop=True,
                save_best=False,
                save_state=False,
                diverged=diverged,
            )
        # A trial at progress 1 is finished, whatever a rung at 1.0 would answer.
        stop = (self._asha_stops(report) or out_of_time) and report.progress < 1
        is_best, ahead = self._history.beats(report)
        return Decided(
            trial=report.trial,
            number=report.number,
            stop=stop,
            save_best=is_best and ahead < self._config.keep_checkpoints,
            save_state=not stop and report.progress < 1 and self._state_is_due(report),
        )

    def _asha_stops(self, report: Report) -> bool:
        if self._config.scheduler == "fifo":
            return False
        trial = _StubTrial(report.trial)
        if report.trial not in self._known:
            self._known.add(report.trial)
            self._asha.on_trial_add(None, trial)
        result = {
            # Rungs are products: 0.1 * 3 is a little more than 0.3.
            "progress": report.progress + 1e-9,
            self._history.metric: report.metrics[self._history.metric],
        }
        return bool(self._asha.on_trial_result(None, trial, result) == TrialScheduler.STOP)

    def _state_is_due(self, report: Report) -> bool:
        """Tell whether enough training time has passed in this attempt since the last state."""
        trial = self._history.trials[report.trial]
        saved_at = max(
            (
                earlier.train_s
                for earlier in trial.reports
                if earlier.attempt == report.attempt
                and (decision := trial.decisions.get(earlier.number)) is not None
                and decision.save_state
            ),
            default=0.0,
        )
        return timedelta(seconds=report.train_s - saved_at) >= self._config.resume_every
