"""`sweeps plan`: what a run would do.

Starts nothing. It must not do more than a run checks first.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rich.table import Table

from sweeps.cli.console import console
from sweeps.cli.options import takes_config
from sweeps.cli.tables import plain_table
from sweeps.search.config import SweepConfig

if TYPE_CHECKING:
    from sweeps.search.definition import Request
    from sweeps.search.layout import Layout


@takes_config
def plan(space: str, assignments: list[str], config: SweepConfig) -> None:
    """Show what a run of SPACE would do; starts nothing."""
    from sweeps.search.definition import make_request
    from sweeps.search.layout import lay_out, this_machine

    request = make_request(space, config, assignments=assignments)
    for line in request.lines:
        console.print(line, markup=False)
    for table in _tables(request, lay_out(this_machine(), config)):
        console.print(table)


def _tables(request: Request, layout: Layout) -> list[Table]:
    """Return what a run would do: what varies, what does not, rungs, and the layout here."""
    from sweeps.search.scheduler import expected_at_rungs
    from sweeps.space import domains

    space, config = request.space, request.config
    tuned = plain_table(f"{request.loaded.name}: {space.metric}, {space.mode}", "tuned", "domain")
    for key, domain in space.tuned.items():
        tuned.add_row(key, domains.describe(domain))
    fixed = plain_table("", "fixed", "value")
    for key, value in space.fixed.items():
        fixed.add_row(key, repr(value))
    if dataclasses.is_dataclass(space.build_trainer):
        for field in dataclasses.fields(space.build_trainer):
            fixed.add_row(field.name, repr(getattr(space.build_trainer, field.name)))
    rungs = plain_table("", "progress", "trials expected there")
    for progress, trials in expected_at_rungs(config.num_trials, config):
        rungs.add_row(f"{progress:.1%}", str(trials))
    size = layout.size
    here = plain_table("", "here", "value")
    here.add_row("trials", str(config.num_trials))
    here.add_row("trials at once", str(layout.groups))
    here.add_row("workers a trial", str(size.workers))
    here.add_row("CPUs a worker", str(size.cpus_per_worker))
    here.add_row("GPUs a worker", f"{size.gpus_per_worker:g}")
    here.add_row("evaluations a trial", str(space.evals_per_trial))
    return [tuned, fixed, rungs, here]
