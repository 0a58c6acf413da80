"""`sweeps list`: the available search spaces, or the sweeps of a storage.

Reads files; imports no space and starts nothing.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sweeps.cli.console import console, duration, number, print_json, size
from sweeps.cli.options import DEFAULT_STORAGE, Storage
from sweeps.errors import UserError
from sweeps.secrets import redact
from sweeps.space.shipped import list_spaces


def list_(
    sweeps: Annotated[
        bool, typer.Option("--sweeps", help="List the sweeps in --storage instead, latest first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --sweeps: print JSON.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """List the search spaces in ./search_spaces and the shipped ones, or all sweeps (--sweeps)."""
    if sweeps:
        _list_sweeps(storage, as_json)
    elif as_json or storage != DEFAULT_STORAGE:
        raise UserError("--json and --storage are for sweeps: add --sweeps")
    else:
        _list_spaces()


def _list_spaces() -> None:
    spaces = list_spaces()
    width = max(map(len, spaces), default=0)
    marks = max((len(space.mark) for space in spaces.values()), default=0)
    for name, space in spaces.items():
        line = f"{name:<{width}}  {space.mark:<{marks}}  {redact(space.line)}"
        console.print(line, markup=False)


def _list_sweeps(storage: str, as_json: bool) -> None:
    from sweeps.answer.overview import list_sweeps
    from sweeps.cli.tables import plain_table

    found = list_sweeps(storage)
    if as_json:
        print_json([entry.in_json() for entry in found])
        return
    if not found:
        console.print(f"no sweeps in {storage} yet", markup=False)
        return
    columns = ("status", "trials", "best", "best trial", "metric", "device time", "size")
    table = plain_table("", "sweep", *columns)
    for entry in found:
        table.add_row(
            entry.sweep,
            entry.status or "unreadable",
            f"{entry.ended}/{entry.trials}",
            number(entry.best),
            entry.winner or "-",
            entry.metric or "-",
            duration(entry.device_s),
            size(entry.bytes),
        )
    console.print(table)
    for entry in found:
        if entry.problem is not None:
            console.print(f"{entry.sweep}: {entry.problem}", markup=False)
    total = size(sum(entry.bytes for entry in found))
    console.print(f"{len(found)} sweep{'s' * (len(found) > 1)}, {total}", markup=False)
