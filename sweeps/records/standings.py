"""The order of a sweep's params sets, best first, kept up event by event.

It is part of the history, wherever that is computed. It must not know events, nor what the order is
for.

A report costs the same whether it is the sweep's tenth or its hundred-thousandth: only its own
params set moves.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator

from sweeps.records.params_set import ParamsSet
from sweeps.records.trial import Trial
from sweeps.report import Mode, Report, better, rounded

Rank = tuple[bool, float, int]
"""How a complete set ranks: whether it lacks seeds, its mean (smaller is better), its number."""


class Standings:
    """The params sets of one sweep.

    Args:
        metric: The judged metric.
        mode: Whether to maximise or minimise it.
        repeats: Trials per params set.
    """

    def __init__(self, metric: str, mode: Mode, repeats: int) -> None:
        self._metric, self._mode, self._repeats = metric, mode, repeats
        self._trials: dict[str, list[Trial]] = {}
        """The trials of each set, in the order in which they were suggested."""
        self._sets: dict[str, ParamsSet] = {}
        self._numbers: dict[str, int] = {}
        self._best: dict[str, Report] = {}
        """The best report of each trial that has a value."""
        self._ranks: dict[str, Rank] = {}
        """The ranks of the complete sets that have a mean."""
        self._order: list[tuple[Rank, str]] = []
        """These ranks with their sets, best first."""
        self._failed: set[str] = set()
        """The complete sets whose trials with a value have all failed."""
        self._changed: set[str] = set()
        """Sets that are out of place. When a log is read back, each of them is moved only once."""

    def add(self, trial: Trial) -> None:
        """Take in a new trial."""
        name = trial.of or trial.id
        self._trials.setdefault(name, []).append(trial)
        self._numbers.setdefault(name, len(self._numbers))
        self._changed.add(name)

    def take(self, trial: Trial, report: Report) -> None:
        """Take in a report of a trial."""
        best = self._best.get(trial.id)
        value = report.value(self._metric)
        if better(value, best.metrics[self._metric] if best else None, self._mode):
            self._best[trial.id] = report
            self._changed.add(trial.of or trial.id)

    def end(self, trial: Trial) -> None:
        """Note that a trial has ended."""
        self._changed.add(trial.of or trial.id)

    def _settle(self) -> None:
        """Move all changed sets to where they belong now."""
        while self._changed:
            self._place(self._changed.pop())

    def _place(self, name: str) -> None:
        trials = sorted(self._trials[name], key=lambda trial: self.rank(self.value(trial)))
        values = [value for trial in trials if (value := self.value(trial)) is not None]
        own = self._sets[name] = ParamsSet(trials, values, self._repeats)
        if (old := self._ranks.pop(name, None)) is not None:
            del self._order[bisect_left(self._order, (old, name))]
            self._failed.discard(name)
        if own.complete and own.mean is not None:
            new = self._ranks[name] = self._rank_of(own, own.mean)
            insort(self._order, (new, name))
            if all(trial.status == "failed" for trial in trials[: len(values)]):
                self._failed.add(name)

    def _rank_of(self, own: ParamsSet, mean: float) -> Rank:
        return own.lacks_seeds, self.rank(mean), self._numbers[own.id]

    def rank(self, value: float | None) -> float:
        """Return a key that sorts values best first and missing ones last; equal ones tie."""
        if value is None:
            return math.inf
        key = rounded(value)
        return -key if self._mode == "max" else key

    def best(self, trial: Trial) -> Report | None:
        """Return the best report of a trial (the earliest of equal ones); None without a value."""
        return self._best.get(trial.id)

    def value(self, trial: Trial) -> float | None:
        """Return the best value of a trial, or None."""
        best = self._best.get(trial.id)
        return best.metrics[self._metric] if best else None

    def best_is_saved(self, trial: Trial) -> bool:
        """Tell whether the checkpoint of a trial's best report is complete."""
        best, saved = self.best(trial), trial.checkpoints.get("best")
        return best is not None and saved is not None and saved.number == best.number

    def may_win(self, trial: Trial) -> bool:
        """Tell whether a trial has a value and, if it failed, the checkpoint of its best report."""
        has_value = self.best(trial) is not None
        return has_value and (trial.status != "failed" or self.best_is_saved(trial))

    def any_may_win(self, own: ParamsSet) -> bool:
        """Tell whether one of the trials of a params set may win."""
        return any(map(self.may_win, own.trials))

    def sets(self) -> list[ParamsSet]:
        """Return the params sets, in the order in which they were suggested."""
        self._settle()
        return [self._sets[name] for name in self._numbers]

    def set_of(self, trial: Trial) -> ParamsSet:
        """Return the params set that a trial belongs to."""
        self._settle()
        return self._sets[trial.of or trial.id]

    def in_order(self) -> Iterator[ParamsSet]:
        """Yield the params sets, best first.

        Sets are judged by their mean. Sets with a value for each seed come first, then those that
        will always lack some, then those that are not complete, and last those without a value.
        Ties are in the order in which they were suggested.
        """
        self._settle()
        for _, name in self._order:
            yield self._sets[name]

        def key(one: ParamsSet) -> tuple[bool, bool, bool, float]:
            return one.mean is None, not one.complete, one.lacks_seeds, self.rank(one.mean)

        others = (self._sets[name] for name in self._numbers if name not in self._ranks)
        yield from sorted(others, key=key)

    def ahead(self, own: ParamsSet, trial: Trial) -> int:
        """Return how many sets that may win stay ahead of `own` with `trial` as its best trial."""
        self._settle()
        most = own.mean if own.ended else self.value(trial)
        assert most is not None, "it has reported"
        place = self._rank_of(own, most)
        count = bisect_left(self._order, (place, ""))
        others = (name for name in self._failed if name != own.id and self._ranks[name] < place)
        lost = sum(not self.any_may_win(self._sets[name]) for name in others)
        now = self._ranks.get(own.id)
        return count - lost - (now is not None and now < place)

    def first(self, count: int, without: ParamsSet) -> Iterator[ParamsSet]:
        """Yield the best complete sets that may win, up to this many, except for one."""
        for _, name in self._order:
            if count == 0:
                return
            if name != without.id and self.any_may_win(self._sets[name]):
                count -= 1
                yield self._sets[name]
