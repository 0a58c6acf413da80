"""`sweeps ui`: MLflow's UI for the store, opened at a sweep.

It starts MLflow's server on the loopback address and stops it on Ctrl-C.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli import completion
from sweeps.cli.console import console, say
from sweeps.cli.options import DEFAULT_STORAGE, SWEEP_HELP, Storage, TrackingUri

if TYPE_CHECKING:
    from sweeps.records.folder import SweepFolder


def ui(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="[SWEEP]",
            help=SWEEP_HELP,
            autocompletion=completion.sweeps,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port to listen on. Default: a free one."),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    tracking_uri: TrackingUri = None,
) -> None:
    """Start the MLflow UI and print a link to the sweep's trials side by side."""
    from sweeps.config import default_tracking_uri, storage_folder
    from sweeps.records.object_storage import open_sweep
    from sweeps.records.sweep_record import read_record
    from sweeps.secrets import take_credentials
    from sweeps.trackers.known import outdated
    from sweeps.trackers.mlflow import is_server, places_of, serve
    from sweeps.trackers.process import bring_up_to_date

    place = storage_folder(storage)
    given = tracking_uri and take_credentials(tracking_uri)
    folder = open_sweep(storage, sweep) if sweep else None
    if folder is not None and _is_left(folder):
        bring_up_to_date(folder, outdated(folder, read_record(folder)), say)
    uri = given or (
        places_of(folder, read_record(folder))[0] if folder else default_tracking_uri(place)
    )
    if is_server(uri):
        if port is not None:
            say(f"--port {port} has no effect: the runs are on a server")
        _print_links(folder, uri)
        return
    say("starting the MLflow UI")
    with serve(uri, place, port) as base_url:
        _print_links(folder, base_url)
        say("press Ctrl-C to stop the server")
        signal.pause()


def _print_links(folder: SweepFolder | None, base_url: str) -> None:
    """Print links: first to the trials, then to the logged models and the best one."""
    from sweeps.trackers.mlflow import model_links, sweep_link

    if folder is None:
        console.print(base_url)
        return
    console.print(sweep_link(folder, base_url))
    for name, link in zip(("models", "best model"), model_links(folder, base_url), strict=False):
        console.print(f"{name}: {link}")


def _is_left(folder: SweepFolder) -> bool:
    """Tell whether this process may bring the sweep's trackers up to date.

    Nobody may be running the sweep. With object storage, it may be running on any machine, so its
    log must have an end.
    """
    from sweeps.records.event_log import is_held
    from sweeps.records.history import read_history
    from sweeps.records.sweep_record import read_record

    if not os.access(folder.logs, os.W_OK):
        return False  # it belongs to someone else
    if folder.storage is None:
        return not is_held(folder.events_file)
    return read_history(folder.events_file, *read_record(folder).judged_by).ended is not None
