"""`sweeps plan`: what a run would do, and warnings about it.

It starts no trial. It prepares the data as a run does, and inspects the cluster at `--address`, or
this machine. It must not train; it lists what only training can show.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sweeps.cli.console import console, print_json, say, say_loading
from sweeps.cli.options import takes_config
from sweeps.cli.plan_tables import (
    confirmation_table,
    confirmation_words,
    confirmations,
    copied_code,
    disk_space,
    fixed_table,
    host_memory,
    layout_table,
    row_tables,
    rung_table,
    sample_table,
    times,
    tried_flags,
    tuned_table,
    work,
)
from sweeps.cli.script_options import BestMode, Metric, SaveSpace, Tune, space_or_script
from sweeps.cli.tables import trials_in_words
from sweeps.config import SweepConfig
from sweeps.records.folder import prepared_of
from sweeps.secrets import without_secrets

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sweeps.builders.data.prepared_data import Advance
    from sweeps.planning.layout import Node


@takes_config
def plan(
    space: str,
    assignments: list[str],
    config: SweepConfig,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    metric: Metric = None,
    mode: BestMode = None,
    tune: Tune = None,
    save_space: SaveSpace = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="Also show what `confirm` would cost, and how small a difference it can detect.",
        ),
    ] = False,
) -> None:
    """Show what a run of SPACE would do, with warnings, without starting a trial."""
    if not as_json:
        say_loading(space)
    gc.disable()  # it would take a fifth of the time to import torch and transformers
    from sweeps.driver.preparing import prepare_data
    from sweeps.driver.requests.new_request import make_request
    from sweeps.planning.plan import make_plan
    from sweeps.planning.warnings import marked
    from sweeps.trackers.known import check_trackers

    source, texts = space_or_script(
        space, assignments, metric=metric, mode=mode, tune=tune, save=save_space, quiet=as_json
    )
    request = make_request(source, config, assignments=texts)
    check_trackers(request.config)
    nodes, autoscaling, doubtful = _nodes(config)
    lines: list[str] = []
    with _bar(shown=console.is_terminal and not as_json) as advance:
        data = prepare_data(
            request.space,
            prepared_of(config.storage_folder),
            workers=config.workers_per_trial,
            where=request.loaded.where,
            note=lines.append,
            advance=advance,
        )
    planned = make_plan(
        request,
        nodes,
        autoscaling=autoscaling,
        data=data,
        data_notes=lines,
        doubtful_gpus=doubtful,
    )
    found = without_secrets(planned)
    if as_json:
        print_json(found.in_json() | ({"confirm": confirmations()} if confirm else {}))
        return
    for note in found.notes:
        say(note)
    script = fixed_table("set by the script in its dry run", found.script)
    parts = [tuned_table(found), fixed_table("fixed", found.fixed), script, tried_flags(found)]
    _part(f"{found.space}: {found.metric}, {found.mode}", *parts)
    _part("data", *row_tables(found.rows))
    _part("first trials", sample_table(found))
    _part(f"early stopping of {trials_in_words(config)}", rung_table(found), work(found))
    if lines := [*times(found)]:
        _part("time", *lines)
    _part("layout", layout_table(found), found.occupancy.hint)
    _part("storage", disk_space(found.disk), host_memory(found.disk), copied_code(found.code))
    if confirm:
        _part("confirm", confirmation_table(), confirmation_words())
    _part("left to the smoke run of `run`" if config.smoke else "left to `run`", *found.left)
    if found.warnings:
        say("")
    for warning in found.warnings:
        say(marked(warning))


def _part(heading: str, *shown: Table | str | None) -> None:
    """Print one part of the plan, after an empty line."""
    say("")
    console.print(heading, style="bold")
    first = True
    for each in shown:
        if isinstance(each, Table):
            if not first:
                say("")
            console.print(each)
        elif each is not None:
            say(each)
        first = first and each is None


@contextmanager
def _bar(*, shown: bool) -> Iterator[Advance]:
    """Show how much of the data is prepared; yield the function that takes the progress."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not shown) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(name: str, done: int, rows: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(f"preparing {name} data", total=rows)
            progress.update(tasks[name], completed=done, total=rows)

        yield advance


def _nodes(config: SweepConfig) -> tuple[list[Node], bool, list[str]]:
    """Return the nodes to run on, whether the cluster autoscales, and warnings about GPUs."""
    from sweeps.driver import cluster
    from sweeps.driver.quiet import quiet
    from sweeps.planning.layout import this_machine
    from sweeps.planning.local_gpus import check_gpus, gpu_warnings
    from sweeps.planning.warnings import UNCHECKED

    wanted = cluster.wanted_address(config.address)
    if cluster.is_started_here(wanted):
        check_gpus(config)
        return this_machine(config), False, gpu_warnings(config)
    with tempfile.TemporaryDirectory(prefix="sweeps-") as scratch:
        folder = Path(scratch)
        with quiet(folder / "plan.log"), cluster.connected(wanted, folder, config):
            return cluster.nodes(), cluster.autoscales(), [UNCHECKED]
