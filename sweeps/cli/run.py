"""`sweeps run`: run a sweep to its end, and show how it goes and what was found."""

from __future__ import annotations

import shlex
import sys

import typer

from sweeps.cli.options import takes_config
from sweeps.search.config import SweepConfig


@takes_config
def run(space: str, assignments: list[str], config: SweepConfig) -> None:
    """Run the sweep that SPACE defines."""
    from sweeps.cli.display import run_and_show
    from sweeps.search.definition import make_request

    command = shlex.join(["python", "-m", "sweeps", *sys.argv[1:]])
    request = make_request(space, config, assignments=assignments, command=command)
    outcome = run_and_show(request)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.history.winner() is None:
        raise typer.Exit(1)
