"""Random values that show what a scheduler does before any trial has run.

Pure; runs in the sweep process, `plan` and `report`. It must not know about any scheduler.
"""

from __future__ import annotations

from random import Random
from typing import get_args

from sweeps.errors import UserError
from sweeps.records.events import Decision
from sweeps.report import Report
from sweeps.schedulers.base import Scheduler
from sweeps.space.search_space import SearchSpace

TRIED = 40
"""Number of trials that a scheduler decides on before a sweep accepts it."""


def drawn_report(trial: str, number: int, value: float, space: SearchSpace) -> Report:
    """Return report `number` of a trial with this value; higher is better."""
    return Report(
        trial=trial,
        number=number,
        step=number,
        max_steps=space.evals_per_trial,
        epoch=number / space.evals_per_trial,
        metrics={space.metric: value if space.mode == "max" else -value},
        train_s=float(number),
    )


def try_out(scheduler: Scheduler, space: SearchSpace, where: str) -> None:
    """Let a scheduler decide on trials that all run at once, and resume those that it pauses.

    Args:
        scheduler: The scheduler, which cannot be used again.
        space: The search space, for the metric, its mode, and the evaluations of a trial.
        where: What the user passed, for messages.

    Raises:
        UserError: The scheduler cannot decide, or returns something invalid.
    """
    generator = Random(0)
    values = {f"t{number:03}": generator.random() for number in range(1, TRIED + 1)}
    reached, running, paused = dict.fromkeys(values, 0), list(values), set[str]()
    rungs = list(scheduler.rungs())
    if rungs != sorted(rungs) or any(not 0 < rung < 1 for rung in rungs):
        raise UserError(f"rungs() = {rungs!r}: must be ascending fractions between 0 and 1", where)
    while running:
        for trial in list(running):
            reached[trial] += 1
            report = drawn_report(trial, reached[trial], values[trial], space)
            decision = scheduler.on_report(report)
            if decision not in get_args(Decision):
                names = ", ".join(map(repr, get_args(Decision)))
                raise UserError(f"on_report() = {decision!r}: must be one of {names}", where)
            if decision != "continue" or reached[trial] == space.evals_per_trial:
                running.remove(trial)
            if decision == "pause":
                paused.add(trial)
        while (resumed := scheduler.resume_next()) is not None:
            if resumed not in paused:
                raise UserError(f"resume_next() = {resumed!r}: must be a paused trial", where)
            paused.remove(resumed)
            if reached[resumed] < space.evals_per_trial:
                running.append(resumed)
