"""The request that repeats a recorded sweep, or one trial of it, as a new sweep: `run --from`.

Runs in the sweep process before Ray starts. It must not compare: `answer/comparison.py` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sweeps.amounts import counted
from sweeps.answer.results import read_results
from sweeps.driver.requests.recorded_request import (
    ask_again,
    check_storage,
    differences,
    recorded_space,
)
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.records.event_log import SweepIsRunning
from sweeps.records.events import TrialSuggested
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import fetch_code
from sweeps.records.sweep_record import Rerun
from sweeps.records.trial import Trial


def make_rerun(
    folder: SweepFolder,
    trial: str | None,
    where: Mapping[str, Any],
    *,
    command: str = "",
) -> Request:
    """Return a request that repeats recorded trials, with their params and seeds.

    Args:
        folder: The recorded sweep's folder.
        trial: The only trial to repeat, to completion; None: all trials, as the sweep ran them.
        where: Config fields that say where the sweep runs now.
        command: The user's command or call, for the record.

    Raises:
        SweepIsRunning: The recorded sweep has not ended.
        UserError: There is no such trial, or the sweep's definition cannot be read back.
    """
    found = read_results(folder)
    if found.status == "running":
        raise SweepIsRunning(
            f"{folder.id} is still running, so its record may still change; repeat it once it has"
            " ended"
        )
    fetch_code(folder)
    trials = found.history.trials
    if not trials:
        raise UserError(f"{folder.id} has no trials to repeat")
    chosen = list(trials.values())
    if trial is not None:
        chosen = [found.history.find_trial(trial, folder.id)]
        trial = chosen[0].id
    record = found.record
    if record.source.file is None:
        raise UserError(
            f"{folder.id} was started from Python with a space that has no file,"
            " so it cannot be repeated from its record; run it again from Python"
        )
    config = dataclasses.replace(
        record.config,
        warm_start=None,  # nothing is searched
        **(_alone() if trial is not None else {}),
        **where,
    )
    check_storage(folder, record, config.storage)
    if trial is None:
        # An incomplete params set gets its missing repeats.
        sets = len(found.history.sets())
        config = dataclasses.replace(config, num_trials=sets * config.repeats)
    request = ask_again(record, recorded_space(folder, record), config, command)
    suggested = [_suggested(one) for one in chosen]
    if trial is not None:
        origin = trials[chosen[0].of or trial].origin
        suggested = [dataclasses.replace(suggested[0], origin=origin, of=None)]
    repeated = trial or counted(len(chosen), "trial")
    lines = [f"repeating {repeated} of {folder.id}"]
    return dataclasses.replace(
        request,
        rerun=Rerun(sweep=folder.id, trials=suggested),
        git=record.git,
        lines=[*lines, *differences(record, request)],
    )


def _alone() -> dict[str, Any]:
    """Return the config of a single trial that runs to completion."""
    return {"num_trials": 1, "repeats": 1, "scheduler": "fifo", "time_budget": None}


def _suggested(trial: Trial) -> TrialSuggested:
    """Return the event that a recorded trial began with."""
    return TrialSuggested(
        trial=trial.id, params=trial.params, origin=trial.origin, seed=trial.seed, of=trial.of
    )
