"""How long a complete trial took in an earlier sweep of the same space.

Used by `plan`; reads the storage folder. It must not know about the current cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.planning.time_left import whole_trial_device_s, whole_trial_s
from sweeps.records.folder import SweepFolder, name_in_id, space_in_id, sweeps_in
from sweeps.records.history import read_history
from sweeps.records.sweep_record import SweepRecord, read_record
from sweeps.space.conditions import describe_tunable
from sweeps.space.plain_values import in_json
from sweeps.workers.group_size import GroupSize

UNTIMED = {"revisions": None}
"""Fields of a builder that do not affect the time, with the values used for comparison."""


@dataclass(frozen=True, kw_only=True)
class PastTime:
    """What an earlier sweep measured."""

    sweep: str
    """Id of that sweep."""
    trial_s: float
    """Mean seconds of a complete trial."""
    device_s: float
    """Its mean device-seconds; a shared GPU counts in proportion."""


def past_time(request: Request, *, gpu: bool) -> PastTime | None:
    """Return what the latest sweep of the same space measured; None if there is none.

    Builder, fixed values, tuned domains, workers per trial and the use of GPUs must be the same.

    Args:
        request: The checked sweep.
        gpu: Whether its workers have GPUs.
    """
    for folder, record in _sweeps(request):
        history = read_history(folder.events_file, *record.judged_by)
        if history.devices is None or (history.devices == "CPU") is gpu:
            continue
        found_s = whole_trial_s(history, record.space.evals_per_trial)
        if found_s is not None:
            device_s = whole_trial_device_s(history)
            if device_s is None:  # measured by the smoke run, which does not share GPUs
                device_s = found_s * _devices(record.config, gpu)
            return PastTime(sweep=folder.id, trial_s=found_s, device_s=device_s)
    return None


def _devices(config: SweepConfig, gpu: bool) -> int:
    """Return the number of devices of a worker group that does not share them."""
    gpus = (1.0 if config.gpus_per_worker is None else config.gpus_per_worker) if gpu else 0.0
    size = GroupSize(workers=config.workers_per_trial, cpus_per_worker=1, gpus_per_worker=gpus)
    return size.devices


def _sweeps(request: Request) -> Iterator[tuple[SweepFolder, SweepRecord]]:
    """Yield the sweeps of the same space, latest first."""
    storage, name = request.config.storage_folder, name_in_id(request.loaded.name)
    for sweep in reversed(sweeps_in(storage)):
        if space_in_id(sweep) != name:
            continue
        folder = SweepFolder(storage / sweep)
        try:
            record = read_record(folder)
        except UserError:  # written by another version, or damaged
            continue
        if _same(request, record):
            yield folder, record


def _same(request: Request, record: SweepRecord) -> bool:
    space, recorded = request.space, record.space
    if not recorded.fields and space.builder.text != recorded.builder:
        return False
    fields, known = ({**values, **UNTIMED} for values in (space.builder.values, recorded.fields))
    tuned = {key: describe_tunable(declared) for key, declared in space.tuned.items()}
    return (
        in_json(fields) == known
        and in_json(space.fixed) == recorded.fixed
        and tuned == recorded.domains
        and request.config.workers_per_trial == record.config.workers_per_trial
    )
