"""ASHA: stops a trial at a rung unless it is among the best trials that have reached it.

Pure; runs in the sweep process, `plan` and `report`. It must not know what is saved or how a
decision reaches a worker.
"""

from __future__ import annotations

import math
from bisect import insort

from sweeps.config import SweepConfig
from sweeps.records.events import Decision
from sweeps.report import Report, reached
from sweeps.space.search_space import SearchSpace


class _Rung:
    """The values with which trials reached a rung; higher is better."""

    def __init__(self, progress: float) -> None:
        self.progress = progress
        self.trials: set[str] = set()
        self._values: list[float] = []
        """In ascending order."""

    def enter(self, trial: str, value: float) -> None:
        """Record the value with which a trial reached the rung; NaN means no value."""
        self.trials.add(trial)
        if not math.isnan(value):
            insort(self._values, value)

    def quantile(self, share: float) -> float:
        """Return the value that this fraction of the trials did not exceed.

        -inf if there are no trials.

        Between two values it is interpolated, with the rounding of `numpy.percentile` (numpy 2.4).
        """
        if not self._values:
            return -math.inf
        place = (len(self._values) - 1) * share
        low = int(place)
        left, right = self._values[low], self._values[min(low + 1, len(self._values) - 1)]
        weight = place - low
        if weight < 0.5:
            return left + (right - left) * weight
        return right - (right - left) * (1 - weight)


class ASHA:
    """Asynchronous successive halving; its resource (Ray's `time_attr`) is a trial's progress.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", section 3, in the
    variant that stops trials rather than promoting them. It decides as Ray's `ASHAScheduler` does
    with one bracket and `stop_last_trials=False` (ray 2.60), which sorts a whole rung for each
    decision.

    Args:
        config: The config, for `first_rung` and `reduction_factor`.
        space: The search space, for the metric and its mode.
    """

    def __init__(self, space: SearchSpace, config: SweepConfig) -> None:
        first, factor = config.first_rung, config.reduction_factor
        self._metric = space.metric
        self._sign = 1 if space.mode == "max" else -1
        # To percent and back, as in Ray, so that the rounding is the same.
        self._share = (1 - 1 / factor) * 100 / 100
        count = int(math.log(1 / first) / math.log(factor) + 1)
        self._rungs = [_Rung(first * factor**power) for power in range(count)]
        """In ascending order. A rung at the end of a trial keeps the values of trials that get
        there."""

    def rungs(self) -> tuple[float, ...]:
        """Return `first_rung`, multiplied by `reduction_factor` each time."""
        return tuple(rung.progress for rung in self._rungs if rung.progress < 1)

    def on_report(self, report: Report) -> Decision:
        """Stop the trial if it is worse than the quantile of the highest rung that it has reached.

        Each trial is judged only once per rung.
        """
        passed = [rung for rung in self._rungs if reached(report.progress, rung.progress)]
        if not passed or report.trial in passed[-1].trials:
            return "continue"
        value = self._sign * report.metrics[self._metric]
        behind = value < passed[-1].quantile(self._share)
        passed[-1].enter(report.trial, value)
        return "stop" if behind else "continue"

    def resume_next(self) -> str | None:
        """Return None: no trial is paused."""
        return None
