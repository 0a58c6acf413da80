"""`sweeps delete`: delete a sweep from its storage.

Needs no cluster. It must not delete anything in MLflow.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.amounts import size
from sweeps.cli.console import say
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName
from sweeps.errors import SweepError, UserError

if TYPE_CHECKING:
    from sweeps.records.folder import SweepFolder
    from sweeps.records.removal import SweepSize


def delete(
    sweep: SweepName,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Delete the sweep even if its model is registered in MLflow."),
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Delete a sweep with its log, checkpoints and files; its runs in MLflow remain."""
    from sweeps.records.event_log import SweepIsRunning, is_held
    from sweeps.records.folder import space_in_id
    from sweeps.records.lease import is_running
    from sweeps.records.object_storage import open_sweep
    from sweeps.records.removal import delete_sweep, size_of

    folder = open_sweep(storage, sweep)
    if folder.id != sweep and not sweep.startswith(f"{space_in_id(folder.id)}-"):
        raise UserError(
            f"{sweep!r} may match several sweeps; to delete the latest of them, pass its id:"
            f" {folder.id}"
        )
    if is_held(folder.events_file) or is_running(folder):
        raise SweepIsRunning(f"{folder.id} is still running; stop it before you delete it")
    _check_trackers(folder)
    if not force:
        _check_registered(folder)
    room = size_of(folder)
    stays = _what_stays(folder, room)
    if not yes:
        _ask(f"{folder.id} in {folder.place('')} uses {size(room.total)}{stays}")
    delete_sweep(folder)
    say(f"deleted {folder.id}: {size(room.freed)} freed{'' if not yes else stays}")


def _check_trackers(folder: SweepFolder) -> None:
    """Refuse to delete the folder while a tracker's process is still reading it."""
    from sweeps.trackers.known import TRACKERS
    from sweeps.trackers.state import is_at_work

    for name in TRACKERS:
        if is_at_work(folder, name):
            raise UserError(f"{folder.id} is still being written to {name}; try again later")


def _what_stays(folder: SweepFolder, room: SweepSize) -> str:
    """Return, as text, what a deletion leaves in MLflow."""
    from sweeps.trackers.state import load_state

    if not load_state(folder, "mlflow").own:
        return ""
    model = f" and its logged model ({size(room.shared)})" if room.shared else ""
    return f"; its runs in MLflow{model} will remain"


def _check_registered(folder: SweepFolder) -> None:
    from sweeps.trackers.mlflow import registered_models

    try:
        found = registered_models(folder)
    except SweepError as error:
        raise UserError(
            f"cannot ask MLflow whether a registered model comes from {folder.id}: {error}\n"
            "  to delete the sweep without this check, pass --force"
        ) from None
    if found:
        raise UserError(
            f"{', '.join(found)} in MLflow come{'s' * (len(found) == 1)} from {folder.id}; to"
            " delete the sweep anyway and keep the registered model, pass --force"
        )


def _ask(what: str) -> None:
    if not sys.stdin.isatty():
        raise UserError(
            "cannot ask for confirmation without a terminal; pass --yes to delete without asking"
        )
    say(what)
    if not typer.confirm("delete it?"):
        raise typer.Abort
