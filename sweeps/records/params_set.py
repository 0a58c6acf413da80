"""A params set: the trials with the same params, each with its own seed, and their mean.

A value made by `history.py`; with `--repeats 1` a set has one trial, and its mean is that trial's
value. It must not know the other sets.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweeps.records.trial import Trial
from sweeps.report import rounded


@dataclass(frozen=True)
class ParamsSet:
    """The trials with equal params."""

    trials: Sequence[Trial]
    """Best first, ties by trial number, those without a value last."""
    values: Sequence[float]
    """The best values of those that have one, best first."""
    repeats: int
    """Number of trials that it will have."""

    @property
    def id(self) -> str:
        """The id of its first trial."""
        return self.trials[0].of or self.trials[0].id

    @property
    def params(self) -> Mapping[str, Any]:
        """What its trials have in common."""
        return self.trials[0].params

    @cached_property
    def mean(self) -> float | None:
        """What it is judged by: the mean of its trials' best values; None before the first."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def error(self) -> float | None:
        """The standard error of the mean: std / sqrt(n) over n seeds; None unless two differ.

        On few evaluation rows, equal values are common and do not show that seeds do not matter.
        """
        if len(set(map(rounded, self.values))) < 2:
            return None
        return statistics.stdev(self.values) / math.sqrt(len(self.values))

    @property
    def complete(self) -> bool:
        """Whether all its trials have a value or have ended; from then on, its mean only improves.

        Before that, a new trial may make it worse.
        """
        without = self.trials[len(self.values) :]
        return len(self.trials) == self.repeats and all(trial.ended for trial in without)

    @property
    def lacks_seeds(self) -> bool:
        """Whether a seed does not count in full: its trial ended without a value or, as one of
        several, diverged or ran out of memory."""
        of_several = len(self.trials) > 1 and any(trial.untrainable for trial in self.trials)
        return of_several or any(trial.ended for trial in self.trials[len(self.values) :])

    @property
    def ended(self) -> bool:
        """Whether its mean will not change any more."""
        return len(self.trials) == self.repeats and all(trial.ended for trial in self.trials)
