"""Says at the end of a sweep that repeats another whether its metric came out equal.

Reads the folders of both. It must not judge: `records/comparison.py` does.
"""

from __future__ import annotations

from sweeps.cli.console import console
from sweeps.errors import UserError
from sweeps.records.comparison import compare, rerun_of
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import open_sweep
from sweeps.records.results import read_results


def show_comparison(folder: SweepFolder, storage: str) -> None:
    """Print the comparison; nothing where the sweep repeats no other.

    Args:
        folder: The sweep's.
        storage: Where both sweeps are.
    """
    rerun = rerun_of(folder.record())
    if rerun is None:
        return
    try:
        recorded = open_sweep(storage, rerun.sweep)
    except UserError as error:  # deleted, or this one was moved
        console.print(f"nothing to compare with: {error}", markup=False)
        return
    for line in compare(read_results(recorded), read_results(folder)):
        console.print(line, markup=False)
