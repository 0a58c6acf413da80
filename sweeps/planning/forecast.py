"""What the scheduler is expected to do: trials at each rung, evaluations, work.

Pure; used by `plan`, and for the time left. It must not know any scheduler: it runs the sweep's own
on values that it draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.drawn import drawn_report
from sweeps.space.search_space import SearchSpace

DRAWN = 1000
"""Trials that are simulated, at least."""


@dataclass(frozen=True)
class Rung:
    """A place where trials are compared, or their end."""

    progress: float
    """Share of a trial at the first evaluation that reaches the rung."""
    evaluation: int
    """Number of that evaluation."""
    trials: float
    """Trials that get there."""


@dataclass(frozen=True)
class Expectation:
    """What the scheduler makes of a number of trials."""

    rungs: Sequence[Rung]
    """Ascending; the last is the end of a trial."""
    work: float
    """Training done, in whole trials."""
    evaluations: float
    """Over all trials."""
    paused: int
    """Trials that are paused at once, at most."""


def outcome(values: Sequence[float], scheduler: Scheduler, space: SearchSpace) -> Expectation:
    """Return what a new scheduler makes of trials that run one at a time and keep their standing.

    Args:
        values: How good each trial is at all its evaluations, more is better, in the order in
            which they start.
        scheduler: Used up here.
        space: For the metric, its mode, and the evaluations of a trial.
    """
    last = space.evals_per_trial
    reached: dict[str, int] = {}
    paused: set[str] = set()
    most_paused = 0
    new = iter(range(len(values)))
    while True:
        trial = scheduler.resume_next()
        if trial is None:
            number = next(new, None)
            if number is None:
                break
            trial = f"t{number}"
            reached[trial] = 0
        elif trial not in paused:
            continue
        paused.discard(trial)
        value = values[int(trial[1:])]
        while reached[trial] < last:
            reached[trial] += 1
            report = drawn_report(trial, reached[trial], value, space)
            decision = scheduler.on_report(report)
            if decision != "continue" and reached[trial] < last:
                if decision == "pause":
                    paused.add(trial)
                break
        most_paused = max(most_paused, len(paused))
    places = sorted({first_evaluation(rung, last) for rung in scheduler.rungs()} | {last})
    rungs = [
        Rung(number / last, number, sum(at >= number for at in reached.values()))
        for number in places
    ]
    done = sum(reached.values())
    return Expectation(rungs, done / last, done, most_paused)


def expect(new_scheduler: Callable[[], Scheduler], space: SearchSpace, trials: int) -> Expectation:
    """Return the mean outcome of `trials` whose standing is random, and the same at every rung.

    Where curves cross, rankings change and more trials continue.

    Args:
        new_scheduler: Returns a scheduler that has decided nothing.
        space: The search space.
        trials: Of the sweep.
    """
    generator = Random(0)
    sweeps = max(1, DRAWN // trials)
    found = [
        outcome([generator.random() for _ in range(trials)], new_scheduler(), space)
        for _ in range(sweeps)
    ]
    rungs = [
        Rung(same[0].progress, same[0].evaluation, sum(rung.trials for rung in same) / sweeps)
        for same in zip(*(one.rungs for one in found), strict=True)
    ]
    return Expectation(
        rungs,
        sum(one.work for one in found) / sweeps,
        sum(one.evaluations for one in found) / sweeps,
        max(one.paused for one in found),
    )


def first_evaluation(rung: float, evaluations: int) -> int:
    """Return the number of the first evaluation at a rung or behind it."""
    return next(n for n in range(1, evaluations + 1) if n / evaluations + 1e-9 >= rung)
