"""`sweeps report`: one HTML page that shows a sweep.

Reads the sweep's folder; works while the sweep runs, and needs no cluster.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.console import console, say
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName

OpenIt = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]


def report(
    sweep: SweepName,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write. Default: report.html in the sweep's folder."),
    ] = None,
    open_it: OpenIt = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write one HTML page that shows a sweep, even while it runs; the page needs no network."""
    gc.disable()  # everything read from a log stays alive until this process ends
    from sweeps.answer.page.write_page import write_report
    from sweeps.answer.results import read_results
    from sweeps.records.object_storage import open_sweep

    show(write_report(read_results(open_sweep(storage, sweep)), out), open_it)


def show(page: Path, open_it: bool) -> None:
    """Print where a page is, and open it if requested."""
    import webbrowser

    console.print(str(page))
    if open_it and not webbrowser.open(page.as_uri()):
        say("cannot open a browser here; the page is a single file that you can copy elsewhere")
