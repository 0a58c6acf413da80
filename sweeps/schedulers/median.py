"""The median stopping rule: stops a trial that is worse than the median of the others so far.

Pure; runs in the sweep process, `plan` and `report`. It must not know what is saved or how a
decision reaches a worker.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

from sweeps.config import SweepConfig
from sweeps.records.events import Decision
from sweeps.report import SLACK, Report, reached
from sweeps.space.search_space import SearchSpace

OTHERS = 3
"""Minimum number of other trials that a trial is compared with."""
LEVELS = 64
"""Number of progress values whose averages are kept; others are recomputed when needed."""


@dataclass
class _Curve:
    """The reports of one trial; higher is better."""

    progress: list[float] = field(default_factory=list)
    """Ascending."""
    sums: list[float] = field(default_factory=list)
    """Sum of the values up to each report."""
    best: float = float("-inf")

    def add(self, progress: float, value: float) -> None:
        self.progress.append(progress)
        self.sums.append(value + (self.sums[-1] if self.sums else 0.0))
        self.best = max(self.best, value)

    def mean_up_to(self, progress: float) -> float | None:
        """Return the mean of the values up to this progress; None if the trial has none there."""
        count = bisect_right(self.progress, progress + SLACK)
        if count == 0 or not reached(self.progress[-1], progress):
            return None
        return self.sums[count - 1] / count


@dataclass
class _Level:
    """The running averages of all trials at one progress; higher is better."""

    progress: float
    means: list[float] = field(default_factory=list)
    """Ascending."""
    by_trial: dict[str, float] = field(default_factory=dict)
    seen: int = 0
    """Number of reports of the sweep that are included."""

    def take(self, trial: str, curve: _Curve) -> None:
        """Include the new reports of a trial."""
        before, mean = self.by_trial.get(trial), curve.mean_up_to(self.progress)
        if mean == before:
            return
        if before is not None:
            del self.by_trial[trial], self.means[bisect_left(self.means, before)]
        if mean is not None:
            self.by_trial[trial] = mean
            insort(self.means, mean)

    def median_without(self, trial: str) -> float | None:
        """Return the median of the other trials; None if there are too few."""
        mean = self.by_trial.get(trial)  # None if its progress has gone backwards
        count = len(self.means) - (mean is not None)
        if count < OTHERS:
            return None
        own = count if mean is None else bisect_left(self.means, mean)
        low, high = (self.means[i + (i >= own)] for i in ((count - 1) // 2, count // 2))
        return low if count % 2 else (low + high) / 2


class Median:
    """Stops a trial whose best value is worse than the median of the others' running averages.

    Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", section 3.2.2, with
    progress as the step. Every trial that got at least as far counts, whether it has ended or not.
    The averages stay sorted between reports, so the cost of a decision hardly grows with the number
    of trials.

    Args:
        config: The config, for `first_rung`, before which no trial stops.
        space: The search space, for the metric, its mode, and the evaluations of a trial.
    """

    def __init__(self, space: SearchSpace, config: SweepConfig) -> None:
        self._metric = space.metric
        self._sign = 1 if space.mode == "max" else -1
        self._first_rung = config.first_rung
        self._evaluations = space.evals_per_trial
        self._curves: dict[str, _Curve] = {}
        self._reported: list[str] = []
        """The trial of each report."""
        self._levels: dict[float, _Level] = {}
        """Levels by progress, the most recently used last."""

    def rungs(self) -> tuple[float, ...]:
        """Return the progress of each evaluation from `first_rung` on."""
        shares = (number / self._evaluations for number in range(1, self._evaluations))
        return tuple(share for share in shares if reached(share, self._first_rung))

    def on_report(self, report: Report) -> Decision:
        """Stop the trial if three others got as far and their median beats its best value."""
        curve = self._curves.setdefault(report.trial, _Curve())
        curve.add(report.progress, self._sign * report.metrics[self._metric])
        self._reported.append(report.trial)
        if not reached(report.progress, self._first_rung):
            return "continue"
        median = self._level(report.progress).median_without(report.trial)
        if median is None or curve.best >= median or math.isclose(curve.best, median):
            return "continue"  # a mean of equal values may differ from them in the last bits
        return "stop"

    def _level(self, progress: float) -> _Level:
        level = self._levels.pop(progress, None) or _Level(progress)
        for trial in set(self._reported[level.seen :]):
            level.take(trial, self._curves[trial])
        level.seen = len(self._reported)
        self._levels[progress] = level
        if len(self._levels) > LEVELS:
            del self._levels[next(iter(self._levels))]
        return level

    def resume_next(self) -> str | None:
        """Return None: no trial is paused."""
        return None
