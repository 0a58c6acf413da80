"""`sweeps plan`: what a run would do, and warnings about it.

It starts no trial. It prepares the data as a run does, and inspects the cluster at `--address`, or
this machine. It must not train; it lists what only training can show.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sweeps.amounts import counted, duration, size
from sweeps.answer.digits import one_line
from sweeps.cli.console import console, print_json, say, say_loading
from sweeps.cli.options import takes_config
from sweeps.cli.script_options import BestMode, Metric, SaveSpace, Tune, space_or_script
from sweeps.cli.tables import plain_table, trials_in_words
from sweeps.config import SweepConfig
from sweeps.durations import written
from sweeps.naming import some
from sweeps.records.folder import prepared_of
from sweeps.secrets import without_secrets

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sweeps.builders.data.prepared_data import Advance
    from sweeps.planning.disk import Disk
    from sweeps.planning.layout import Node
    from sweeps.planning.plan import Plan
    from sweeps.planning.rows import SplitRows
    from sweeps.space.code_copy import Code

CLASSES_SHOWN = 20
"""Maximum number of classes whose rows are shown; `--json` has all."""
MOST_RUNGS = 5
"""With more rungs, only the first and the last are named."""
LINKS_SHOWN = 3
"""Maximum number of files and folders beside the space that are named."""
SEEDS_SHOWN = (4, 6, 9, 17)
"""Numbers of fresh seeds for which `--confirm` shows what they can detect."""


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
    nodes, grows, doubtful = _nodes(config)
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
        autoscaling=grows,
        data=data,
        data_notes=lines,
        doubtful_gpus=doubtful,
    )
    found = without_secrets(planned)
    if as_json:
        print_json(found.in_json() | ({"confirm": _confirmations()} if confirm else {}))
        return
    for note in found.notes:
        say(note)
    script = _fixed("set by the script in its dry run", found.script)
    parts = [_tuned(found), _fixed("fixed", found.fixed), script, _dry_run(found)]
    _part(f"{found.space}: {found.metric}, {found.mode}", *parts)
    _part("data", *row_tables(found.rows))
    _part("first trials", _samples(found))
    _part(f"early stopping of {trials_in_words(config)}", _rungs(found), _work(found))
    if lines := [*_times(found)]:
        _part("time", *lines)
    _part("layout", _here(found), found.occupancy.hint)
    _part("storage", _disk(found.disk), _host_memory(found.disk), _code(found.code))
    if confirm:
        _part("confirm", _confirmation_table(), _confirmation_words())
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


def _confirmations() -> list[dict[str, float]]:
    """Return the runs and the smallest detectable difference for several numbers of seeds."""
    from sweeps.answer.seed_statistics import smallest_gap
    from sweeps.driver.requests.confirmation_request import TOP

    return [
        {"seeds": seeds, "complete_trials": (TOP + 1) * seeds, "smallest_gap": smallest_gap(seeds)}
        for seeds in SEEDS_SHOWN
    ]


def _confirmation_table() -> Table:
    table = plain_table("", "seeds", "complete trials", "smallest difference found")
    for row in _confirmations():
        table.add_row(
            str(row["seeds"]), str(row["complete_trials"]), f"{row['smallest_gap']:.1f} sd"
        )
    return table


def _confirmation_words() -> str:
    from sweeps.answer.confirmation import FEWEST_SEEDS

    return (
        "complete trials: of the two best params and the baseline; sd: standard deviation between"
        " seeds of the same params; found: the smallest difference that a two-sided paired t-test"
        f" at 5% finds in 80% of cases; fewer than {FEWEST_SEEDS} seeds give no verdict"
    )


def _nodes(config: SweepConfig) -> tuple[list[Node], bool, list[str]]:
    """Return the nodes of the cluster to join, or this machine; whether it grows; GPU warnings."""
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
            return cluster.nodes(), cluster.grows(), [UNCHECKED]


def _tuned(found: Plan) -> Table:
    table = plain_table("", "tuned", "domain")
    for key, domain in found.tuned.items():
        table.add_row(key, domain)
    for name in found.constraints:
        table.add_row("constraint", name)
    return table


def _fixed(column: str, values: Mapping[str, Any]) -> Table | None:
    if not values:
        return None
    table = plain_table("", column, "value")
    for key, value in values.items():
        table.add_row(key, repr(value))
    return table


def _dry_run(found: Plan) -> str | None:
    """Return the tuned flags that the script's arguments may follow from, with their values."""
    if not found.script or not found.tried_flags:
        return None
    return (
        f"in the dry run, the tuned flags were {one_line(found.tried_flags)}; arguments that the"
        " script derives from them differ between trials"
    )


def row_tables(found: Sequence[SplitRows]) -> Iterator[Table | str]:
    """Yield the rows by split, then the classes, each for every choice that the data depends on."""
    if not found:
        yield "the number of rows is not known yet"
        return
    counted = any(each.cut is not None for each in found)
    table = plain_table("", "split", "rows", *(("longer than max_tokens",) if counted else ()))
    for each in found:
        cut = None if each.cut is None else f"{each.cut:,} ({each.cut / each.rows:.1%})"
        table.add_row(_split(each), f"{each.rows:,}", *((cut or "-",) if counted else ()))
    yield table
    # Shown once if the choices differ only in something else, such as `max_tokens`.
    counts = {(each.split, tuple(each.classes.items())): each for each in found if each.classes}
    # All classes, because two datasets may have different ones.
    classes = list(dict.fromkeys(name for each in counts.values() for name in each.classes))
    if classes:
        splits = [each.split for each in counts.values()]
        repeated = len(set(splits)) < len(splits)
        names = [_split(each) if repeated else each.split for each in counts.values()]
        table = plain_table("", "class", *names)
        for name in classes[:CLASSES_SHOWN]:
            rows = (each.classes.get(name) for each in counts.values())
            table.add_row(name, *("-" if count is None else f"{count:,}" for count in rows))
        yield table
    if len(classes) > CLASSES_SHOWN:
        yield f"{len(classes) - CLASSES_SHOWN} more not shown; --json shows all classes"


def _split(rows: SplitRows) -> str:
    return f"{rows.split} {one_line(rows.choice)}".strip()


def _times(found: Plan) -> Iterator[str]:
    """Yield what an earlier sweep took, if there is one, and the time budget, if there is one."""
    time, budget = found.time, found.config.time_budget
    if time is not None:
        yield (
            f"a complete trial takes about {duration(time.trial_s)}, and the sweep about"
            f" {duration(found.sweep_s(time))}, as measured in {time.sweep}"
        )
    if budget is not None:
        yield (
            f"the time budget is {written(budget)} from the start of the first trial; after that,"
            " no trial starts, and running ones stop at their next evaluation"
        )


def _samples(found: Plan) -> Table:
    """Return the sampled params, each with its arguments, without the fixed ones."""
    table = plain_table("", "sample", "value")
    for number, sample in enumerate(found.samples, 1):
        first = 1 + (number - 1) * found.config.repeats
        table.add_row(f"t{first:03}", one_line(sample.params))
        table.add_row("", f"-> {one_line({**sample.arguments, **sample.builder})}")
    return table


def _rungs(found: Plan) -> Table:
    table = plain_table("", "progress", "epochs", "evaluation", "trials that reach it")
    for rung in found.expected.rungs:
        at = found.epochs_at(rung.progress)
        epochs = "-" if at is None else f"{at:g}"
        row = (f"{rung.progress:.1%}", epochs, str(rung.evaluation), f"{rung.trials:.1f}")
        table.add_row(*row)
    return table


def _work(found: Plan) -> str:
    expected = found.expected
    rungs = [f"{rung.progress:.1%}" for rung in expected.rungs[:-1]]
    at = ", ".join(rungs)
    if len(rungs) > MOST_RUNGS:
        at = f"{len(rungs)} evaluations, from {rungs[0]} to {rungs[-1]}"
    compared = f"trials are compared at {at}, and the weaker ones may stop there; " if at else ""
    return (
        f"{compared}expected work: {expected.work:.1f} complete trials ({found.share:.0%} of"
        f" {found.config.num_trials}) and {expected.evaluations:.0f} evaluations, if the ranking of"
        " trials never changes"
    )


def _here(found: Plan) -> Table:
    from sweeps.planning.layout import at_once_in_words

    size, occupancy = found.layout.size, found.occupancy
    table = plain_table("", "setting", "value")
    table.add_row("nodes", str(len(found.nodes)))
    table.add_row("trials at once", at_once_in_words(found.layout))
    table.add_row("workers per trial", str(size.workers))
    table.add_row("CPUs per worker", str(size.cpus_per_worker))
    share = " or a share of one" if found.layout.sharing else ""
    table.add_row("GPUs per worker", f"{found.layout.gpus_per_worker:g}{share}")
    if size.data_cpus:
        table.add_row("CPUs for Ray Data per trial", str(size.data_cpus))
    for kind, used, held in (
        ("CPUs", occupancy.used_cpus, occupancy.cpus),
        ("GPUs", occupancy.used_gpus, occupancy.gpus),
    ):
        table.add_row(kind, f"{used:g} used, {held - used:g} idle")
    fewest, most = found.steps or (found.evals_per_trial, found.evals_per_trial)
    if found.steps is not None:
        table.add_row("steps per trial", _between(fewest, most))
    evaluations = (min(each, found.evals_per_trial) for each in (fewest, most))
    table.add_row("evaluations per trial", _between(*evaluations))
    stalled = duration(found.config.stall_timeout.total_seconds())
    table.add_row("stall timeout", f"{stalled} without a step")
    return table


def _between(fewest: int, most: int) -> str:
    return f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _host_memory(disk: Disk) -> str:
    copies = f"host memory: at most {disk.copies} copies of checkpoints at a time"
    if disk.copied_bytes is not None:
        copies += f" ({size(disk.copied_bytes)} if all are states)"
    return f"{copies}, while they are written; if there is no room, training waits"


def _disk(disk: Disk) -> str:
    each_best, each_state = "weights only", "weights and optimizer"
    if disk.best_bytes is not None and disk.state_bytes is not None:
        each_best += f", {size(disk.best_bytes)} each"
        each_state += f", {size(disk.state_bytes)} each"
    counts = (
        f"{disk.best} best checkpoints ({each_best}) and {disk.states} states to resume from"
        f" ({each_state})"
    )
    free = f"{size(disk.free_bytes)} free"
    if disk.peak_bytes is None:
        return f"disk: at most {counts} at once; sizes are known once one is saved; {free}"
    return f"disk: at most {size(disk.peak_bytes)} at once: {counts}; {free}"


def _code(code: Code) -> str | None:
    if not code.copied:
        return None
    linked = f"; read in place: {some([place.name for place in code.linked], LINKS_SHOWN)}"
    return (
        f"code: {counted(len(code.copied), 'file')} copied from the space's"
        f" folder, {size(code.bytes)} (.py files, small text files, and whatever the space"
        f" lists in `files`; at most 10 MB in total){linked if code.linked else ''}"
    )
