"""`sweeps compare`: one HTML page that shows several sweeps side by side.

Reads the sweeps' folders; works while they run, and needs no cluster.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli import completion
from sweeps.cli.options import DEFAULT_STORAGE, Storage
from sweeps.cli.report_command import OpenIt, show


def compare(
    sweeps: Annotated[
        list[str],
        typer.Argument(
            metavar="SWEEP...",
            help="Two or more sweeps that share a metric: ids, id prefixes, or space names.",
            autocompletion=completion.sweeps,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write. Default: comparison.html in the storage folder."),
    ] = None,
    open_it: OpenIt = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write one HTML page that shows several sweeps of one metric side by side."""
    gc.disable()  # everything read from a log stays alive until this process ends
    from sweeps.answer.page.write_page import write_comparison
    from sweeps.answer.results import read_results
    from sweeps.records.object_storage import open_sweep

    found = [read_results(open_sweep(storage, sweep)) for sweep in sweeps]
    show(write_comparison(found, out), open_it)
