"""A sweep that has ended: whether a resume has anything left to run, and its trackers.

Runs before anything that takes seconds to import. It must not load the space, nor import Ray.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sweeps.config import SweepConfig, is_uri
from sweeps.declared_types import known_fields, settle_fields
from sweeps.durations import written
from sweeps.errors import UserError
from sweeps.records.event_log import is_held
from sweeps.records.folder import SweepFolder
from sweeps.records.history import read_history
from sweeps.records.provenance import versions
from sweeps.records.sweep_record import Resumption, SpaceRecord, read_record, write_record
from sweeps.secrets import take_credentials
from sweeps.trackers.known import check_trackers, outdated
from sweeps.trackers.process import bring_up_to_date


@known_fields
@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a resume may change; None: as recorded."""

    trackers: Sequence[str] | None = None
    tracking_uri: str | None = None
    address: str | None = None
    max_concurrent: int | None = None
    num_trials: int | None = None
    time_budget: timedelta | None = None

    def __post_init__(self) -> None:
        if problems := settle_fields(self):
            raise UserError(problems, "Changes")

    def over(self, config: SweepConfig) -> SweepConfig:
        """Return a recorded config with the changes.

        Raises:
            UserError: The changes do not fit together.
        """
        asked = {name: value for name, value in vars(self).items() if value is not None}
        if self.tracking_uri is not None:
            asked["tracking_uri"] = take_credentials(self.tracking_uri)
        return dataclasses.replace(config, **asked)


def nothing_left(folder: SweepFolder, changes: Changes) -> str | None:
    """Return one line that says why there is nothing to resume; None if there may be something.

    Raises:
        UserError: The changes ask for fewer trials than the ended sweep has.
    """
    if not folder.events_file.exists() or is_held(folder.events_file):
        return None
    record = read_record(folder)
    if is_uri(record.config.storage) and folder.storage is None:
        return None
    config = changes.over(record.config)
    history = read_history(folder.events_file, *record.judged_by)
    trials = history.trials.values()
    if history.ended is None or not all(trial.ended for trial in trials):
        return None
    if changes.num_trials is not None and changes.num_trials < len(trials):
        raise UserError(
            f"num_trials = {changes.num_trials}: {folder.id} already has {len(trials)} trials; to"
            " run more, choose a higher number"
        )
    if len(trials) >= config.num_trials:
        return f"every trial has ended; to run more, pass a --num-trials above {len(trials)}"
    budget = config.time_budget
    if budget is not None and history.used_s >= budget.total_seconds():
        return (
            f"the time budget of {written(budget)} is used up; to run more, pass a longer"
            " --time-budget"
        )
    return None


def no_effect(name: str) -> str:
    """Return the line about an option that has no effect because nothing is left to run."""
    return f"{name} has no effect: nothing is left to run"


def finish_tracking(
    folder: SweepFolder,
    changes: Changes,
    *,
    storage: str,
    command: str,
    say: Callable[[str], None],
) -> None:
    """Bring the trackers of a finished sweep up to date, including those that the resume adds.

    Args:
        folder: The sweep's folder.
        changes: What changes from now on.
        storage: Where the sweep was found.
        command: The user's command or call, for the record.
        say: Called with each line.

    Raises:
        UserError: A tracker cannot be used.
    """
    record = read_record(folder)
    config = dataclasses.replace(changes.over(record.config), storage=storage)
    check_trackers(config)
    was = record.config.trackers, record.tracking_uri
    if was == (config.trackers, config.mlflow_store):
        bring_up_to_date(folder, outdated(folder, record), say)
        return
    note_resumption(folder, config, command)
    bring_up_to_date(folder, config.trackers, say)


def note_resumption(
    folder: SweepFolder, config: SweepConfig, command: str, space: SpaceRecord | None = None
) -> None:
    """Record in `sweep.json` what the sweep continues with.

    Args:
        folder: The sweep's folder.
        config: The config from now on.
        command: The user's command or call, for the record.
        space: The space from now on; None: as recorded. What all trials have in common stays as
            recorded.
    """
    record = read_record(folder)
    was = record.space
    if space is not None:
        fields = {**space.fields, **was.fields}
        space = dataclasses.replace(space, builder=was.builder, fields=fields, fixed=was.fixed)
    now = Resumption(
        time=time.strftime("%Y-%m-%dT%H:%M:%S%z"), command=command, versions=versions()
    )
    write_record(
        folder,
        dataclasses.replace(
            record,
            space=space or was,
            config=config,
            tracking_uri=config.mlflow_store,
            artifacts=str(config.mlflow_artifacts),
            resumed=[*record.resumed, now],
        ),
    )
