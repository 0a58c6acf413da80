"""`sweeps export`: hand over a checkpoint as a plain HF folder.

Needs no cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli.console import console, number
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName, TrackingUri


def export(
    sweep: SweepName,
    out: Annotated[Path, typer.Option(help="Folder to make.")],
    trial: Annotated[str | None, typer.Option(help="A trial id; unset: the best.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a non-empty folder.")] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Put a LoRA adapter into its model.")
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write the best checkpoint of a sweep as a plain HF folder, and load it from there."""
    from sweeps.answer.export import export_checkpoint
    from sweeps.answer.results import read_results
    from sweeps.records.object_storage import open_sweep

    found = read_results(open_sweep(storage, sweep))
    done = export_checkpoint(found, out, trial_id=trial, force=force, merge=merge)
    if "mean" in done:
        error = f" (standard error {number(done['mean_error'])})" if done["mean_error"] else ""
        of = "the best of its params' trials" if trial is None else "one of its params' trials"
        console.print(
            f"{done['trial']} is {of}; their mean is {number(done['mean'])}{error}"
            f" over {done['seeds']} seeds",
            markup=False,
        )
    console.print(
        f"{done['trial']} of {done['sweep']}, {done['metric']} {number(done['value'])}"
        f" at step {done['step']}, is in {out}; it loads",
        markup=False,
    )
