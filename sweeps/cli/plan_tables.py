"""The tables and lines that `sweeps plan` prints, each made of a plan or of a part of one.

Runs in the verb. It must not print, nor find out anything itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from sweeps.amounts import counted, duration, size
from sweeps.answer.digits import one_line
from sweeps.cli.tables import plain_table
from sweeps.durations import written
from sweeps.naming import some

if TYPE_CHECKING:
    from sweeps.planning.disk import Disk
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


def tuned_table(found: Plan) -> Table:
    """Return the tuned keys with their domains, and the constraints."""
    table = plain_table("", "tuned", "domain")
    for key, domain in found.tuned.items():
        table.add_row(key, domain)
    for name in found.constraints:
        table.add_row("constraint", name)
    return table


def fixed_table(column: str, values: Mapping[str, Any]) -> Table | None:
    """Return values that all trials share, under this heading; None without any."""
    if not values:
        return None
    table = plain_table("", column, "value")
    for key, value in values.items():
        table.add_row(key, repr(value))
    return table


def tried_flags(found: Plan) -> str | None:
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


def times(found: Plan) -> Iterator[str]:
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


def sample_table(found: Plan) -> Table:
    """Return the sampled params, each with its arguments, without the fixed ones."""
    table = plain_table("", "sample", "value")
    for number, sample in enumerate(found.samples, 1):
        first = 1 + (number - 1) * found.config.repeats
        table.add_row(f"t{first:03}", one_line(sample.params))
        table.add_row("", f"-> {one_line({**sample.arguments, **sample.builder})}")
    return table


def rung_table(found: Plan) -> Table:
    """Return where trials are compared, and how many are expected to get there."""
    table = plain_table("", "progress", "epochs", "evaluation", "trials that reach it")
    for rung in found.expected.rungs:
        at = found.epochs_at(rung.progress)
        epochs = "-" if at is None else f"{at:g}"
        row = (f"{rung.progress:.1%}", epochs, str(rung.evaluation), f"{rung.trials:.1f}")
        table.add_row(*row)
    return table


def work(found: Plan) -> str:
    """Return how much work is expected, and where trials may stop."""
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


def layout_table(found: Plan) -> Table:
    """Return how the trials fit on the nodes, and how long each is."""
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


def host_memory(disk: Disk) -> str:
    """Return how much host memory the copies of checkpoints take."""
    copies = f"host memory: at most {disk.copies} copies of checkpoints at a time"
    if disk.copied_bytes is not None:
        copies += f" ({size(disk.copied_bytes)} if all are states)"
    return f"{copies}, while they are written; if there is no room, training waits"


def disk_space(disk: Disk) -> str:
    """Return how much disk space the checkpoints take."""
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


def copied_code(code: Code) -> str | None:
    """Return which files are copied from the space's folder; None without any."""
    if not code.copied:
        return None
    linked = f"; read in place: {some([place.name for place in code.linked], LINKS_SHOWN)}"
    return (
        f"code: {counted(len(code.copied), 'file')} copied from the space's"
        f" folder, {size(code.bytes)} (.py files, small text files, and whatever the space"
        f" lists in `files`; at most 10 MB in total){linked if code.linked else ''}"
    )


def confirmations() -> list[dict[str, float]]:
    """Return the runs and the smallest detectable difference for several numbers of seeds."""
    from sweeps.answer.seed_statistics import smallest_gap
    from sweeps.driver.requests.confirmation_request import TOP

    return [
        {"seeds": seeds, "complete_trials": (TOP + 1) * seeds, "smallest_gap": smallest_gap(seeds)}
        for seeds in SEEDS_SHOWN
    ]


def confirmation_table() -> Table:
    """Return what several numbers of seeds cost and detect."""
    table = plain_table("", "seeds", "complete trials", "smallest difference found")
    for row in confirmations():
        table.add_row(
            str(row["seeds"]), str(row["complete_trials"]), f"{row['smallest_gap']:.1f} sd"
        )
    return table


def confirmation_words() -> str:
    """Return what the columns of that table mean."""
    from sweeps.answer.confirmation import FEWEST_SEEDS

    return (
        "complete trials: of the two best params and the baseline; sd: standard deviation between"
        " seeds of the same params; found: the smallest difference that a two-sided paired t-test"
        f" at 5% finds in 80% of cases; fewer than {FEWEST_SEEDS} seeds give no verdict"
    )
