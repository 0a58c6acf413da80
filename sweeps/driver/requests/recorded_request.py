"""The request of a recorded sweep, rebuilt from its folder, and what has changed since.

Runs in the sweep process before Ray starts, for a resume and for a rerun. It must not know what the
request is used for.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.config import SweepConfig, call, is_uri
from sweeps.driver.requests.make_sweep_record import space_record
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.requests.python_space import without_file
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.records.folder import SweepFolder
from sweeps.records.provenance import versions
from sweeps.records.sweep_record import SweepRecord
from sweeps.secrets import without_secrets
from sweeps.space.loading import LoadedSpace, load_copy
from sweeps.space.search_space import SearchSpace

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Where an object is in memory, in its `repr`: another place in each process."""


def recorded_space(folder: SweepFolder, record: SweepRecord) -> LoadedSpace:
    """Return the space from the sweep's own copy of the code; it must have a file."""
    assert record.source.file is not None
    loaded = load_copy(folder.code, record.source.file, record.source.dotted)
    return dataclasses.replace(loaded, name=record.space.name)


def given_space(
    folder: SweepFolder, record: SweepRecord, space: SearchSpace | None, verb: str
) -> LoadedSpace:
    """Return the space that the caller gives again, because the recorded one has no file.

    Raises:
        UserError: The caller gives none.
    """
    if space is None:
        raise UserError(
            f"{folder.id} was started from Python with a space that has no file;"
            f" {verb} it from Python:"
            f" {call(verb, folder.id, storage=folder.storage or folder.path.parent)}"
        )
    return without_file(space, record.space.name, Path(record.source.root))


def check_storage(folder: SweepFolder, record: SweepRecord, storage: str) -> None:
    """Refuse to continue a sweep on object storage from its local folder alone.

    Raises:
        UserError: The sweep is on object storage, but `storage` is a folder.
    """
    kept = record.config.storage
    if is_uri(kept) and not is_uri(storage):
        raise UserError(f"{folder.id} is stored in {kept}; use --storage {kept}")


def ask_again(
    record: SweepRecord, loaded: LoadedSpace, config: SweepConfig, command: str = ""
) -> Request:
    """Return the recorded request with this space and config, checked again.

    Raises:
        UserError: See `make_request`.
    """
    return make_request(
        loaded,
        config,
        assignments=record.source.assignments,
        command=command,
        base=Path(record.source.base),
        warm_start=record.warm_start_trials if config.warm_start is not None else None,
    )


def differences(record: SweepRecord, request: Request, *, new_code: bool = False) -> list[str]:
    """Return a line for each difference from the record that is allowed.

    Args:
        record: The sweep's record.
        request: The request that continues or repeats the sweep.
        new_code: Whether its space comes from other code than the sweep's own copy, as a space
            without a file always does. Such a space must have the recorded values, because the
            record holds one value for all trials. Those of the copy may differ by its path.

    Raises:
        UserError: A difference makes trials before and after incomparable.
    """
    was, now = record.space, without_secrets(space_record(request))
    problems = [
        f"{name} was {old!r}, is now {new!r}"
        for name, old, new in (
            ("metric", was.metric, now.metric),
            ("mode", was.mode, now.mode),
            ("tuned", was.domains, now.domains),
            ("evals_per_trial", was.evals_per_trial, now.evals_per_trial),
        )
        if old != new
    ]
    if new_code or record.source.file is None:
        # A later version of a builder may have more fields.
        fields = {name: value for name, value in now.fields.items() if name in was.fields}
        problems += _changed("builder field", was.fields, fields)
        problems += _changed("fixed", was.fixed, now.fixed)
    if problems:
        raise UserError(
            f"{record.sweep} was recorded with another space, so its trials and new ones would not"
            f" be comparable: {'; '.join(problems)}; start a new sweep"
        )
    lines = [
        f"{name} was {old}, is now {new}"
        for name, old, new in (
            ("builder", was.builder, now.builder),
            ("fixed", was.fixed, now.fixed),
        )
        if old != new
    ]
    newest = record.newest_versions
    return lines + [
        f"{package} was {newest.get(package, 'missing')}, is now {version}"
        for package, version in versions().items()
        if newest.get(package) != version
    ]


def _changed(kind: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each value that has changed."""
    texts = [{key: ADDRESS.sub("", repr(each[key])) for key in each} for each in (was, now)]
    pairs = [(key, *(each.get(key, "missing") for each in texts)) for key in {**was, **now}]
    return [f"{kind} {key!r} was {old}, is now {new}" for key, old, new in pairs if old != new]
