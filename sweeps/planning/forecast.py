"""What the scheduler is expected to do: trials at each rung, evaluations, and work.

Pure; used by `plan`, by `report` and for the time left. It must not know about any scheduler: it
runs the sweep's own on random values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from sweeps.report import reached
from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.drawn import drawn_report
from sweeps.space.search_space import SearchSpace

DRAWN = 1000
"""Minimum number of trials that are simulated."""


@dataclass(frozen=True)
class Rung:
    """A point where trials are compared, or their end."""

    progress: float
    """Fraction of a trial at the first evaluation that reaches the rung."""
    evaluation: int
    """Number of that evaluation."""
    trials: float
    """Number of trials that get there."""


@dataclass(frozen=True)
class Expectation:
    """The expected outcome of a number of trials."""

    rungs: Sequence[Rung]
    """Ascending; the last is the end of a trial."""
    work: float
    """Amount of training, in complete trials."""
    evaluations: float
    """Number of evaluations over all trials."""
    paused: int
    """Maximum number of trials that are paused at a time."""


def outcome(values: Sequence[float], scheduler: Scheduler, space: SearchSpace) -> Expectation:
    """Return the outcome for trials that run one at a time and never change rank.

    Args:
        values: How good each trial is at all of its evaluations, higher is better, in the order in
            which they start.
        scheduler: The scheduler, which cannot be used again.
        space: The search space, for the metric, its mode, and the evaluations of a trial.
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
    """Return the mean outcome of `trials` with a random rank that is the same at every rung.

    If learning curves cross, ranks change and more trials continue.

    Args:
        new_scheduler: Returns a scheduler that has decided nothing.
        space: The search space.
        trials: Number of trials of the sweep.
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
    """Return the number of the first evaluation at or after a rung."""
    return next(n for n in range(1, evaluations + 1) if reached(n / evaluations, rung))
