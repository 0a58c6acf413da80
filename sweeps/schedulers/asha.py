"""ASHA: stops a trial at a rung unless it is among the best that got there.

Runs in the sweep process and in `plan`. It must not know what is saved, nor how a decision reaches
a worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from sweeps.config import SweepConfig
from sweeps.records.events import Decision
from sweeps.report import Report
from sweeps.space.search_space import SearchSpace


@dataclass(frozen=True)
class _Trial:
    """All that Ray's ASHA reads of a trial (ray 2.60)."""

    trial_id: str


class ASHA:
    """Ray's `ASHAScheduler` with progress as its time and one bracket.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", section 3, in the
    variant that stops trials and promotes none.

    Args:
        config: For `first_rung` and `reduction_factor`.
        space: For the metric and its mode.
    """

    def __init__(self, space: SearchSpace, config: SweepConfig) -> None:
        self._metric = space.metric
        self._first_rung = config.first_rung
        self._reduction_factor = config.reduction_factor
        self._asha = ASHAScheduler(
            time_attr="progress",
            metric=space.metric,
            mode=space.mode,
            max_t=1.0,
            grace_period=config.first_rung,
            reduction_factor=config.reduction_factor,
            brackets=1,
            # True would stop a full-length trial at its last report (ray 2.60).
            stop_last_trials=False,
        )
        self._added: set[str] = set()

    def rungs(self) -> tuple[float, ...]:
        """Return `first_rung`, and each time `reduction_factor` times as much."""
        rungs = [self._first_rung]
        while rungs[-1] * self._reduction_factor < 1:
            rungs.append(rungs[-1] * self._reduction_factor)
        return tuple(rungs)

    def on_report(self, report: Report) -> Decision:
        """Stop the trial if it is worse than the quantile of its rung."""
        trial = _Trial(report.trial)
        if report.trial not in self._added:
            self._added.add(report.trial)
            self._asha.on_trial_add(None, trial)
        result = {
            # Rungs are products: 0.1 * 3 is a little more than 0.3.
            "progress": report.progress + 1e-9,
            self._metric: report.metrics[self._metric],
        }
        stops = self._asha.on_trial_result(None, trial, result) == TrialScheduler.STOP
        return "stop" if stops else "continue"

    def resume_next(self) -> str | None:
        """Return None: no trial is paused."""
        return None
