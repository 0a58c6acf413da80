"""Exports to a folder, and from there to MLflow's registry and to the Hub.

Used by the verb and from Python. It must not print: its caller passes in the functions that do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweeps.answer.results import Results
from sweeps.errors import UserError


def hand_over(
    found: Results,
    out: Path,
    *,
    push_to_hub: str | None,
    private: bool,
    register: str | None,
    note: Callable[[str], None],
    exported: Callable[[Mapping[str, Any]], None],
    **options: Any,
) -> None:
    """Export a checkpoint, register it and upload it, after checking everything that can be.

    Args:
        found: The sweep's results.
        out: The folder to create.
        push_to_hub: Repository of the Hub; None: no upload.
        private: Whether a newly created repository is private.
        register: Name of a registered model of MLflow; None: none.
        note: Called with a line before and after each slow step.
        exported: Called with the content of `provenance.json` once the folder is there.
        options: See `export_checkpoint`.

    Raises:
        UserError: Something that can be fixed is wrong.
        SweepError: The export is not what was reported, or MLflow or the Hub rejects it; in the
            latter case, the folder stays.
    """
    from sweeps.answer.export import export_checkpoint
    from sweeps.answer.hub_upload import check_upload, upload
    from sweeps.trackers import mlflow

    if private and push_to_hub is None:
        raise UserError("private has no effect without push_to_hub")
    if push_to_hub is not None:
        check_upload(push_to_hub)
    if register is not None:
        mlflow.sweep_in_mlflow(found.folder)
    done = export_checkpoint(found, out, note=note, **options)
    exported(done)
    if register is not None:
        uri = mlflow.register(found.folder, done["trial"], done["step"], register)
        note(f"registered as {uri} and models:/{register}@{mlflow.ALIAS}")
    if push_to_hub is not None:
        note(f"uploading to {push_to_hub}")
        message = f"{done['trial']} of {done['sweep']}"
        note(f"uploaded: {upload(out, push_to_hub, private=private, message=message)}")
