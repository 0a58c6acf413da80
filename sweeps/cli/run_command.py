"""`sweeps run`: run a sweep to its end, showing its progress and its results."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sweeps.cli import completion
from sweeps.cli.console import say_loading, this_command
from sweeps.cli.options import WHERE, flag_name, takes_config
from sweeps.cli.script_options import BestMode, Metric, SaveSpace, Tune, space_or_script
from sweeps.config import SweepConfig
from sweeps.driver.early_server import head_start
from sweeps.errors import UserError

ALLOWED = {"space", "assignments", "from_", "trial", *WHERE}
"""The parameters that `--from` allows."""


@takes_config
def run(
    space: str | None,
    assignments: list[str],
    config: SweepConfig,
    context: typer.Context,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SWEEP",
            help="Repeat a recorded sweep instead of running SPACE, and compare the metric.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    trial: Annotated[
        str | None,
        typer.Option(
            help="With --from: repeat only this trial, and train it to completion.",
            autocompletion=completion.trials,
        ),
    ] = None,
    metric: Metric = None,
    mode: BestMode = None,
    tune: Tune = None,
    save_space: SaveSpace = None,
) -> None:
    """Run the sweep that SPACE defines, or repeat a recorded one (--from).

    With --metric, SPACE may also be a training script, whose own arguments follow --.
    """
    from sweeps.records.object_storage import open_sweep
    from sweeps.records.sweep_record import read_record

    command = this_command()
    where = {} if from_ is None else _where(context, space, assignments, config)
    repeated = None if from_ is None else open_sweep(config.storage, from_)
    recorded = None if repeated is None else read_record(repeated).config.address
    if loaded := from_ or space:
        say_loading(loaded)
    with head_start(config.address or recorded):
        from sweeps.driver.requests.new_request import make_request
        from sweeps.driver.requests.rerun import make_rerun

        if repeated is not None:
            request = make_rerun(repeated, trial, where, command=command)
        elif space is None:
            raise UserError("pass a SPACE to run, or --from SWEEP to repeat a sweep")
        elif trial is not None:
            raise UserError(f"--trial {trial} requires --from SWEEP, the sweep of that trial")
        else:
            source, texts = space_or_script(
                space, assignments, metric=metric, mode=mode, tune=tune, save=save_space
            )
            request = make_request(source, config, assignments=texts, command=command)
        from sweeps.cli.running import run_and_show

        outcome = run_and_show(request)
    if outcome.history.winner() is None:
        raise typer.Exit(1)


def _where(
    context: typer.Context, space: str | None, assignments: list[str], config: SweepConfig
) -> dict[str, Any]:
    """Return the fields that say where a recorded sweep is repeated.

    Raises:
        UserError: Something else was given as well.
    """
    flags = {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
        and source.name == "COMMANDLINE"
    }
    asked = [] if space is None else [space, *assignments]
    refused = [
        flag_name(f"no_{name}" if value is False else name)
        for name, value in context.params.items()
        if name in flags - ALLOWED
    ]
    if asked or refused:
        allowed = ", ".join(map(flag_name, ("trial", *WHERE)))
        raise UserError(
            f"--from repeats a sweep as it was recorded; omit {', '.join([*asked, *refused])}"
            f" (allowed: {allowed})"
        )
    return {name: getattr(config, name) for name in WHERE if name in flags or name == "storage"}
