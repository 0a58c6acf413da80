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
    from sweeps.cli.display import Display
    from sweeps.search.definition import make_request
    from sweeps.search.sweep import run_request

    command = shlex.join(["python", "-m", "sweeps", *sys.argv[1:]])
    request = make_request(space, config, assignments=assignments, command=command)
    display = Display(request)
    try:
        with display:
            outcome = run_request(request, display.observer)
    finally:
        display.summarize()
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.history.winner() is None:
        raise typer.Exit(1)
