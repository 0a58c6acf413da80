"""`sweeps list`: the available search spaces, or the sweeps in a storage.

Reads files; imports no space and starts nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from sweeps.amounts import counted, duration, size
from sweeps.answer.digits import number
from sweeps.cli.console import console, fits, print_json, say
from sweeps.cli.options import DEFAULT_STORAGE, Storage
from sweeps.errors import UserError
from sweeps.secrets import redact
from sweeps.space.shipped import list_spaces

if TYPE_CHECKING:
    from sweeps.answer.overview import SweepEntry


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
        raise UserError("--json and --storage only apply to sweeps; add --sweeps")
    else:
        _list_spaces()


def _list_spaces() -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, space in list_spaces().items():
        table.add_row(name, space.mark, Text(redact(space.line)))
    console.print(table)


def _list_sweeps(storage: str, as_json: bool) -> None:
    gc.disable()  # what is read from a log stays alive until its sweep is listed
    from sweeps.answer.overview import list_sweeps

    found = list_sweeps(storage)
    if as_json:
        print_json([entry.in_json() for entry in found])
        return
    if not found:
        say(f"no sweeps in {storage} yet")
        return
    table = _sweeps_table(found, narrow=False)
    if not fits(table):
        table = _sweeps_table(found, narrow=True)
    console.print(table)
    for entry in found:
        if entry.problem is not None:
            say(f"{entry.sweep}: {entry.problem}")
    total = size(sum(entry.bytes for entry in found))
    say(f"{counted(len(found), 'sweep')}, {total}")


def _sweeps_table(found: Sequence[SweepEntry], *, narrow: bool) -> Table:
    """Return the table of the sweeps; a narrow one omits their metric and device time."""
    from sweeps.cli.tables import plain_table

    columns = ("status", "trials", "best", "best trial")
    wide = () if narrow else ("metric", "device time")
    table = plain_table("", "sweep", *columns, *wide, "size")
    table.columns[0].overflow = "fold"  # show the complete id
    for entry in found:
        table.add_row(
            entry.sweep,
            entry.status or "unreadable",
            f"{entry.ended}/{entry.trials}",
            number(entry.best) + (f" (mean of {entry.seeds})" if entry.seeds is not None else ""),
            entry.winner or "-",
            *(() if narrow else (entry.metric or "-", duration(entry.device_s))),
            size(entry.bytes),
        )
    return table
