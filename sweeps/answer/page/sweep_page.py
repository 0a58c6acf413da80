"""What the page of one sweep shows: a frozen value of plain data, with a field per picture.

Computed in any process, from the sweep's folder. It must not know HTML, nor decide who won:
`answer/answer.py` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.answer.answer import Answer
from sweeps.answer.digits import BEST, digits_to_tell_apart
from sweeps.answer.page.axes import Axis, find_axes, find_values
from sweeps.answer.page.best_so_far import BestSoFar, find_best_so_far
from sweeps.answer.page.causes_of_failure import Cause, find_causes
from sweeps.answer.page.rung_survival import RungReached, find_survival
from sweeps.answer.page.searched_space import searched_space
from sweeps.answer.page.seed_values import SeedValues, find_seed_values
from sweeps.answer.page.sentences import three_sentences
from sweeps.answer.page.tiles import Tile, value_tiles
from sweeps.answer.page.timeline import Timeline, find_timeline
from sweeps.answer.page.what_ran import WhatRan, find_what_ran
from sweeps.answer.results import Results
from sweeps.records.history import trial_status
from sweeps.records.trial import Trial


@dataclass(frozen=True, kw_only=True)
class ShownTrial:
    """One trial in all pictures."""

    trial: str
    params_set: str
    status: str
    value: float | None
    """The trial's best value; None before the first."""
    at: float | None
    """Share of the trial done at that value."""
    like_best: bool
    """Whether the sweep cannot tell its params, which are not the best, apart from the best."""
    curve: Sequence[tuple[float, float]]
    """The share done and the value of each evaluation with a finite value."""
    values: Sequence[float | None]
    """The trial's position on each axis, as returned by `find_values`."""
    device_s: float
    reached_s: float | None
    """Device-seconds that the sweep had used when it reached its best value."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much each domain mattered for being among the best."""

    shares: Mapping[str, float]
    """The shares by axis name, largest first; they add up to 1."""
    params_sets: int
    """Params sets that ended with a value."""
    needed: int
    """How many are needed for a meaningful result."""


@dataclass(frozen=True, kw_only=True)
class SweepPage:
    """What the page of one sweep shows."""

    sweep: str
    answer: Answer
    sentences: tuple[str, str, str]
    tiles: Sequence[Tile]
    """The winner's values and its gain."""
    made: float
    """Unix time at which the sweep was read."""
    axes: Sequence[Axis]
    trials: Sequence[ShownTrial]
    """Best first."""
    digits: int
    """Significant digits that tell the best ones apart."""
    best_so_far: BestSoFar
    rungs: Sequence[RungReached]
    """How far the trials got, and the forecast."""
    planned: int
    """Trials that the sweep may start."""
    importance: Importance
    timeline: Timeline
    seeds: SeedValues | None
    """None: every params set ran with one seed."""
    causes: Sequence[Cause]
    ran: WhatRan


def sweep_page(results: Results) -> SweepPage:
    """Return what the page of a sweep shows, running or not."""
    from sweeps.searchers.importance import NEEDED, importances  # importing Optuna takes a second

    history, record, answer = results.history, results.record, results.answer
    space = searched_space(record.space)
    winner = answer.winner
    best_so_far = find_best_so_far(results.events, history, answer.device_s)
    like_best = set(answer.not_told_apart or ())
    shares, params_sets = importances(space, history)
    now = time.time()
    until = now if results.status == "running" else history.newest or now
    return SweepPage(
        sweep=results.folder.id,
        answer=answer,
        sentences=three_sentences(answer, best_so_far),
        tiles=value_tiles(answer),
        made=now,
        axes=find_axes(
            record.space,
            winner.params if winner is not None else None,
            [
                (trial.params, value)
                for trial in history.trials.values()
                if (value := history.value(trial)) is not None
            ],
        ),
        trials=[
            ShownTrial(
                trial=trial.id,
                params_set=trial.of or trial.id,
                status=trial_status(trial, results.status),
                value=history.value(trial),
                at=best.progress if (best := history.best(trial)) is not None else None,
                like_best=(trial.of or trial.id) in like_best,
                curve=_curve(trial, history.metric),
                values=find_values(record.space, trial.params),
                device_s=trial.device_s_by(until),
                reached_s=best_so_far.reached_s.get(trial.id),
            )
            for trial in history.ranked()
        ],
        digits=digits_to_tell_apart(map(history.value, history.ranked()[:BEST])),
        best_so_far=best_so_far,
        rungs=find_survival(space, record.config, history),
        planned=record.config.num_trials,
        importance=Importance(shares=shares, params_sets=params_sets, needed=NEEDED),
        timeline=find_timeline(results.events, history, results.status, until),
        seeds=find_seed_values(history, answer),
        causes=find_causes(history),
        ran=find_what_ran(results),
    )


def _curve(trial: Trial, metric: str) -> list[tuple[float, float]]:
    values = ((report.progress, report.metrics.get(metric, math.nan)) for report in trial.reports)
    return [(progress, value) for progress, value in values if math.isfinite(value)]
