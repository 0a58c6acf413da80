"""`sweeps resume`: continue a sweep where its event log ends."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sweeps.cli.console import say, say_loading, this_command
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName, takes_changes
from sweeps.driver.early_server import head_start


@takes_changes
def resume(
    sweep: SweepName,
    storage: Storage = DEFAULT_STORAGE,
    take_new_code: Annotated[
        bool,
        typer.Option(
            "--take-new-code", help="Use the space's current files, not the sweep's copy of them."
        ),
    ] = False,
    **changes: Any,
) -> None:
    """Continue a sweep, however it ended; options you omit keep their recorded values."""
    from sweeps.driver.requests.finished import Changes, finish_tracking, no_effect, nothing_left
    from sweeps.records.object_storage import open_sweep
    from sweeps.records.sweep_record import read_record

    folder, asked = open_sweep(storage, sweep), Changes(**changes)
    command = this_command()
    if why := nothing_left(folder, asked):
        say(f"{folder.id} is finished: {why}")
        if take_new_code:
            say(no_effect("--take-new-code"))
        finish_tracking(folder, asked, storage=storage, command=command, say=say)
        return
    say_loading(folder.id)
    with head_start(asked.address or read_record(folder).config.address):
        from sweeps.driver.requests.resume_request import make_resumption

        request = make_resumption(
            folder, asked, storage=storage, take_new_code=take_new_code, command=command
        )
        from sweeps.cli.running import run_and_show

        outcome = run_and_show(request, folder)
    if outcome.history.winner() is None:
        raise typer.Exit(1)
