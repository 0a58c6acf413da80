"""`sweeps confirm`: run the best params of a sweep and the baseline again, with fresh seeds."""

from __future__ import annotations

from typing import Annotated

import typer

from sweeps.cli.console import say, say_loading, this_command
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName
from sweeps.driver.early_server import head_start


def confirm(
    sweep: SweepName,
    top: Annotated[
        int | None, typer.Option(help="How many of the best params sets to confirm. [default: 2]")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Fresh seeds for each params set; a verdict needs at least 6. [default: 6]"
        ),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to use. Default: as recorded.")
    ] = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of concurrent runs. Default: as recorded."),
    ] = None,
) -> None:
    """Run the best params and the baseline again with fresh seeds, or continue doing so."""
    from sweeps.records.object_storage import open_sweep
    from sweeps.records.sweep_record import read_record

    folder = open_sweep(storage, sweep)
    say_loading(folder.id)
    with head_start(address or read_record(folder).config.address):
        from sweeps.answer.results import read_results
        from sweeps.cli.summary import print_confirmed
        from sweeps.driver.requests.confirmation_request import make_confirmation

        found = read_results(folder)
        where = {"address": address, "max_concurrent": max_concurrent}
        request, asked = make_confirmation(
            found,
            top=top,
            seeds=seeds,
            storage=storage,
            where={name: value for name, value in where.items() if value is not None},
            command=this_command(),
        )
        confirmed = found.answer.confirmation
        if confirmed is not None and confirmed.ended:
            say(f"{folder.id} is already confirmed")
            print_confirmed(folder, found.answer, request.config)
            return
        from sweeps.cli.running import run_and_show

        run_and_show(request, folder, asked=asked)
