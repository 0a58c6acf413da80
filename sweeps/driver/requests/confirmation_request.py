"""The request of a confirmation: which params run again, with which seeds.

Runs in the sweep process before Ray starts. It must not judge the results: `answer/confirmation.py`
does.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sweeps.answer.confirmation import FEWEST_SEEDS
from sweeps.answer.results import Results
from sweeps.answer.seed_statistics import MOST_SEEDS
from sweeps.driver.requests.recorded_request import (
    ask_again,
    check_storage,
    differences,
    given_space,
    recorded_space,
)
from sweeps.durations import written
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.records.event_log import is_held, locked
from sweeps.records.events import ConfirmationStarted
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.object_storage import fetch_code
from sweeps.records.sweep_record import SweepRecord
from sweeps.space.loading import LoadedSpace
from sweeps.space.search_space import SearchSpace

TOP = 2
"""Default number of the search's best params sets to confirm."""
SEEDS = FEWEST_SEEDS
"""Default number of fresh seeds for each params set."""


def make_confirmation(
    found: Results,
    *,
    top: int | None,
    seeds: int | None,
    storage: str,
    where: Mapping[str, Any],
    space: SearchSpace | None = None,
    command: str = "",
) -> tuple[Request, ConfirmationStarted]:
    """Return the request of a new or resumed confirmation, and what it compares.

    Args:
        found: The sweep's results.
        top: How many params sets to compare with the baseline; None: as when it began, or `TOP`.
        seeds: How many fresh seeds; None: as when it began, or `SEEDS`.
        storage: Where the sweep was found.
        where: Config fields that say where the sweep runs now.
        space: The space of a sweep that was started from Python without a file.
        command: The user's command or call, for the record.

    Raises:
        SweepIsRunning: A process is running the sweep.
        UserError: A number is out of range, the search has not ended, has no winner or tuned the
            seed, another confirmation has begun, or the definition cannot be read back.
    """
    folder, history, record = found.folder, found.history, found.record
    if is_held(folder.events_file) or found.status == "running":
        raise locked(folder.id)
    if history.ended is None:
        raise UserError(
            f"{folder.id} was interrupted, so its winner may still change. Resume it first:"
            f" {folder.command('resume')}"
        )
    if "seed" in record.space.tuned:
        raise UserError(
            f"{folder.id} tuned the seed, so its params cannot be run again with fresh seeds; to"
            " confirm, run a new sweep without 'seed' in tuned"
        )
    _check(top, seeds)
    asked = _asked(folder, history, top, seeds)
    check_storage(folder, record, storage)
    fetch_code(folder)
    config = dataclasses.replace(
        record.config,
        num_trials=len(asked.arms) * len(asked.seeds),
        repeats=len(asked.seeds),
        scheduler="fifo",
        time_budget=None,
        keep_checkpoints=len(asked.arms),
        warm_start=None,  # nothing is searched
        smoke=False,  # complete trials have already run
        trackers=(),  # brought up to date at the end
        storage=storage,
        **where,
    )
    request = ask_again(record, _loaded(folder, record, space), config, command)
    return dataclasses.replace(
        request,
        lines=[
            *request.lines,
            *differences(record, request),
            *_fewer(top, history),
            *_no_verdict(asked),
            *_cost(asked, history),
        ],
    ), asked


def _check(top: int | None, seeds: int | None) -> None:
    problems = []
    if top is not None and top < 1:
        problems.append(f"top = {top}: must be at least 1")
    if seeds is not None and not 2 <= seeds <= MOST_SEEDS:
        problems.append(
            f"seeds = {seeds}: must be between 2 and {MOST_SEEDS}; a verdict needs at least {SEEDS}"
        )
    if problems:
        raise UserError(problems, "the confirmation")


def _loaded(folder: SweepFolder, record: SweepRecord, space: SearchSpace | None) -> LoadedSpace:
    if record.source.file is not None:
        return recorded_space(folder, record)
    return given_space(folder, record, space, "confirm")


def _asked(
    folder: SweepFolder, history: History, top: int | None, seeds: int | None
) -> ConfirmationStarted:
    """Return what the sweep's confirmation compares, starting a new one if none has begun.

    Raises:
        UserError: There is nothing to compare, or the existing confirmation compares something
            else.
    """
    before = history.confirmation.asked if history.confirmation is not None else None
    if before is None:
        return new_confirmation(history, top=top or TOP, seeds=seeds or SEEDS)
    winner = history.winner()
    if winner is not None and history.set_of(winner).id != before.arms[0]:
        raise UserError(
            f"{folder.id} ran more trials after {before.arms[0]} was confirmed, and its winner is"
            f" now {history.set_of(winner).id}. A sweep can be confirmed only once: with"
            " several winners tested, one could pass by luck. Start a new sweep"
        )
    same = _arms(history, top)[0] == list(before.arms) if top is not None else True
    if not same or seeds not in (None, len(before.seeds)):
        others = ", ".join(before.arms)
        raise UserError(
            f"{folder.id} is already being confirmed, with {len(before.seeds)} seeds for each of"
            f" {others}. The comparison must not change after the first run, so omit --top and"
            " --seeds"
        )
    return before


def new_confirmation(history: History, *, top: int, seeds: int) -> ConfirmationStarted:
    """Return what a new confirmation compares.

    Args:
        history: The history of a search that has ended.
        top: How many of the search's best params sets to confirm.
        seeds: How many fresh seeds.

    Raises:
        UserError: There is nothing to compare.
    """
    arms, baseline = _arms(history, top)
    used = {trial.seed for trial in history.trials.values()}
    fresh = itertools.islice((seed for seed in itertools.count() if seed not in used), seeds)
    return ConfirmationStarted(arms=arms, baseline=baseline, seeds=list(fresh))


def _arms(history: History, top: int) -> tuple[list[str], str]:
    """Return the params sets to run again, the search's winner first, and the baseline's.

    The baseline is the first params set that can be confirmed: `first_params[0]` or, if the space
    has none, the searcher's first proposal, made before it had seen a result of this sweep.
    """
    ranked = _ranked(history)
    baseline = next(one.id for one in history.sets() if one.id in ranked)
    arms = list(dict.fromkeys([*ranked[:top], baseline]))
    if len(arms) == 1 and len(ranked) > 1:
        raise UserError(
            f"top = {top}: the best params are those of the baseline {baseline} itself, so there is"
            " nothing to compare; raise top"
        )
    if len(arms) == 1:
        raise UserError(
            f"there are no params to compare with those of the baseline {baseline}; run more trials"
            " first"
        )
    return arms, baseline


def _ranked(history: History) -> list[str]:
    """Return the params sets that can be confirmed, best first.

    Raises:
        UserError: There are none.
    """
    winner = history.winner()
    if winner is None:
        raise UserError(
            "no trial has a result, so there is nothing to confirm; run more trials first"
        )
    competing = [t for t in history.ranked() if t.status != "failed" and history.best(t)]
    return list(dict.fromkeys(history.set_of(trial).id for trial in (winner, *competing)))


def _fewer(top: int | None, history: History) -> list[str]:
    """Return a line if fewer params can be confirmed than requested."""
    if top is None or top <= (there := len(_ranked(history))):
        return []
    return [
        f"top = {top}: only {there} params of the search can be confirmed, because the others"
        f" failed or have no value; all {there} are confirmed"
    ]


def _no_verdict(asked: ConfirmationStarted) -> list[str]:
    """Return a line if there are too few seeds for a verdict."""
    if len(asked.seeds) >= FEWEST_SEEDS:
        return []
    return [
        f"{len(asked.seeds)} seeds give no verdict, only means and intervals: at least"
        f" {FEWEST_SEEDS} are needed, and once runs have begun, their number cannot change"
    ]


def _cost(asked: ConfirmationStarted, history: History) -> list[str]:
    """Return lines on what runs again and what that costs, judging by the search's trials."""
    runs = len(asked.arms) * len(asked.seeds)
    arms = ", ".join(name for name in asked.arms if name != asked.baseline)
    left = runs - sum(run.ended for run in history.confirming.values())
    whole = [
        trial.device_s / trial.reports[-1].progress
        for trial in history.trials.values()
        if trial.reports and trial.attempts and not trial.failure
    ]
    lines = [
        f"confirming {arms} against {asked.baseline} with {len(asked.seeds)} fresh seeds each:"
        f" {left} complete trials to run"
    ]
    if whole:
        took = written(timedelta(seconds=round(left * statistics.fmean(whole))))
        lines.append(f"judging by the search's trials, that will take about {took} of device time")
    return lines
