"""How many trials reached each rung, compared with what `plan` expects.

Pure functions. They must not know how it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sweeps.config import SweepConfig
from sweeps.planning.forecast import expect
from sweeps.planning.steps import with_few_steps
from sweeps.records.history import History
from sweeps.report import reached
from sweeps.schedulers.make_scheduler import SCHEDULERS
from sweeps.space.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class RungReached:
    """One rung, or the end of a trial."""

    progress: float
    """Share of a trial at the first evaluation that reaches the rung."""
    trials: int
    """Trials that have reached it so far."""
    expected: float | None
    """Trials that `plan` expects to reach it, of all that the sweep may start; None for a user's
    own scheduler, which readers of a sweep do not run."""


def find_survival(
    space: SearchSpace, config: SweepConfig, history: History
) -> tuple[RungReached, ...]:
    """Return the rungs of the sweep's scheduler, ascending, the last one the end of a trial."""
    if history.measured is not None:
        space = with_few_steps(space, history.measured.steps)
    if config.scheduler not in SCHEDULERS:
        evaluations = range(1, space.evals_per_trial + 1)
        return tuple(_reached(n / space.evals_per_trial, history, None) for n in evaluations)
    make = partial(SCHEDULERS[config.scheduler], space, config)
    expected = expect(make, space, config.num_trials)
    return tuple(_reached(rung.progress, history, rung.trials) for rung in expected.rungs)


def _reached(progress: float, history: History, expected: float | None) -> RungReached:
    there = sum(
        any(reached(report.progress, progress) for report in trial.reports[-1:])
        for trial in history.trials.values()
    )
    return RungReached(progress=progress, trials=there, expected=expected)
