"""`sweeps plan`: what a run would do, and warnings about it.

Starts no trial; inspects the cluster at `--address`, or this machine. It must not do more than the
checks of a run.
"""

from __future__ import annotations

import gc
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sweeps.cli.console import console, duration, one_line
from sweeps.cli.options import takes_config
from sweeps.cli.tables import plain_table, trials_in_words
from sweeps.config import SweepConfig

if TYPE_CHECKING:
    from sweeps.planning.layout import Node


@takes_config
def plan(
    space: str,
    assignments: list[str],
    config: SweepConfig,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a run of SPACE would do, with warnings; starts no trial."""
    gc.disable()  # during imports of torch and transformers it takes a fifth of the time
    from sweeps.driver.new_request import make_request
    from sweeps.planning.plan import make_plan

    request = make_request(space, config, assignments=assignments)
    nodes, grows = _nodes(config.address)
    found = make_plan(request, nodes, autoscaling=grows)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for line in found["notes"]:
        console.print(line, markup=False)
    for table in (_tuned(found), _fixed(found), _samples(found), _rungs(found), _here(found)):
        console.print(table)
    trials = trials_in_words(config) if config.repeats > 1 else None
    for line in (trials, _work(found), _disk(found["checkpoints"]), found["layout"]["hint"]):
        if line is not None:
            console.print(line, markup=False)
    for line in found["warnings"]:
        console.print(f"warning: {line}", markup=False)


def _nodes(address: str | None) -> tuple[list[Node], bool]:
    """Return the nodes of the cluster at `address`, or this machine, and whether it grows."""
    from sweeps.driver import cluster
    from sweeps.planning.layout import this_machine

    if address is None:
        return this_machine(), False
    wanted = cluster.wanted_address(address)
    with tempfile.TemporaryDirectory(prefix="sweeps-") as scratch:
        folder = Path(scratch)
        with cluster.quiet(folder / "plan.log"), cluster.connected(wanted, folder):
            return cluster.nodes(), cluster.grows()


def _tuned(found: dict[str, Any]) -> Table:
    title = f"{found['space']}: {found['metric']}, {found['mode']}"
    table = plain_table(title, "tuned", "domain")
    for key, domain in found["tuned"].items():
        table.add_row(key, domain)
    for name in found["constraints"]:
        table.add_row("constraint", name)
    return table


def _fixed(found: dict[str, Any]) -> Table:
    table = plain_table("", "fixed", "value")
    for key, value in found["fixed"].items():
        table.add_row(key, repr(value))
    return table


def _samples(found: dict[str, Any]) -> Table:
    """Return the sampled params, each with its arguments, without the fixed ones."""
    table = plain_table("", "sample", "value")
    for number, sample in enumerate(found["samples"], 1):
        first = 1 + (number - 1) * found["repeats"]
        table.add_row(f"t{first:03}", one_line(sample["params"]))
        table.add_row("", f"-> {one_line({**sample['arguments'], **sample['builder']})}")
    return table


def _rungs(found: dict[str, Any]) -> Table:
    table = plain_table("", "progress", "epochs", "evaluation", "expected trials")
    for rung in found["rungs"]:
        epochs = "-" if rung["epochs"] is None else f"{rung['epochs']:g}"
        row = (f"{rung['progress']:.1%}", epochs, str(rung["evaluation"]), f"{rung['trials']:.1f}")
        table.add_row(*row)
    return table


def _work(found: dict[str, Any]) -> str:
    work = found["work"]
    return (
        f"expected work: {work['share']:.0%} of running all {found['trials']} trials to their end"
        f" ({work['trials']:.1f} whole trials, {work['evaluations']:.0f} evaluations), if the"
        " ranking of trials does not change"
    )


def _here(found: dict[str, Any]) -> Table:
    layout = found["layout"]
    nodes = layout["nodes"]
    table = plain_table("", "layout", "value")
    table.add_row("nodes", str(len(nodes)))
    table.add_row("trials at once", str(layout["groups"]))
    table.add_row("workers per trial", str(layout["workers"]))
    table.add_row("CPUs per worker", str(layout["cpus_per_worker"]))
    table.add_row("GPUs per worker", f"{layout['gpus_per_worker']:g}")
    if layout["data_cpus"]:
        table.add_row("CPUs for Ray Data per trial", str(layout["data_cpus"]))
    for kind in ("cpus", "gpus"):
        used, idle = layout[kind]["used"], layout[kind]["idle"]
        table.add_row(f"{kind[:-1].upper()}s", f"{used:g} used, {idle:g} idle")
    table.add_row("evaluations per trial", str(found["evaluations_per_trial"]))
    table.add_row("stalled", f"after {duration(found['stall_timeout_s'])} without a step")
    return table


def _disk(checkpoints: dict[str, Any]) -> str:
    counts = f"{checkpoints['best']} best checkpoints and {checkpoints['states']} states at once"
    free = f"{checkpoints['free_bytes'] / 1e9:.1f} GB free"
    if checkpoints["peak_bytes"] is None:
        return f"disk: at most {counts}; their size is known when the first one is saved; {free}"
    best, state = checkpoints["best_bytes"] / 1e6, checkpoints["state_bytes"] / 1e6
    return (
        f"disk: at most {counts}, {best:.1f} and {state:.1f} MB each:"
        f" {checkpoints['peak_bytes'] / 1e9:.2f} GB at the peak; {free}"
    )
