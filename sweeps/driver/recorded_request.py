"""What a sweep was asked to do, read back from its folder, and what has changed since.

Runs in the sweep process before Ray starts, for a resume and for a rerun. It must not know
what is done with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeps.config import SweepConfig, is_uri
from sweeps.driver.new_request import make_request
from sweeps.driver.record import describe_space
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.records.folder import SweepFolder
from sweeps.records.provenance import versions
from sweeps.space.loading import LoadedSpace, load_copy


def recorded_space(folder: SweepFolder, record: Mapping[str, Any]) -> LoadedSpace:
    """Return the space, which has a file, from the sweep's own copy of the code."""
    source = record["source"]
    loaded = load_copy(folder.code, source["file"], source["dotted"])
    return dataclasses.replace(loaded, name=record["space"])


def check_storage(folder: SweepFolder, record: Mapping[str, Any], storage: str) -> None:
    """Refuse to take a sweep that is kept on object storage for one that is not.

    Raises:
        UserError: It is kept there, and `storage` is a folder.
    """
    kept = record["config"]["storage"]
    if is_uri(kept) and not is_uri(storage):
        raise UserError(f"{folder.id} is kept in {kept}; say --storage {kept}")


def ask_again(
    record: Mapping[str, Any], loaded: LoadedSpace, config: SweepConfig, command: str = ""
) -> Request:
    """Return the recorded request for a space and a config, checked again.

    Raises:
        UserError: See `make_request`.
    """
    source = record["source"]
    return make_request(
        loaded,
        config,
        assignments=source["assignments"],
        command=command,
        base=Path(source["base"]),
    )


def differences(record: Mapping[str, Any], request: Request) -> list[str]:
    """Return a line for what differs from the record and may.

    Raises:
        UserError: What must not differ does: trials before and after could not be compared.
    """
    now = describe_space(request.space)
    problems = [
        f"{name} was {record[name]!r}, is {now[name]!r}"
        for name in ("metric", "mode", "tuned", "evals_per_trial")
        if record[name] != now[name]
    ]
    if problems:
        raise UserError(
            [*problems, "trials before and after could not be compared; start a new sweep"],
            f"{record['sweep']} as it is defined now",
        )
    lines = [
        f"{name} was {record[name]}, is {now[name]}"
        for name in ("builder", "fixed")
        if record[name] != now[name]
    ]
    newest = (record.get("resumed") or [record])[-1]["versions"]
    return lines + [
        f"{package} was {newest.get(package, 'missing')}, is {version}"
        for package, version in versions().items()
        if newest.get(package) != version
    ]
