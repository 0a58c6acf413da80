"""The command line's entry: the verbs put together, errors turned into exit codes.

Runs first in every invocation. It must not import what only one verb needs.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from sweeps.cli.console import console, print_error
from sweeps.cli.export_command import export
from sweeps.cli.list_command import list_
from sweeps.cli.plan_command import plan
from sweeps.cli.results_command import results
from sweeps.cli.resume_command import resume
from sweeps.cli.run_command import run
from sweeps.cli.ui_command import ui
from sweeps.errors import SweepError
from sweeps.secrets import redact_output

INTERRUPTED = 130
_UsageError: Any = typer.BadParameter.__bases__[0]
"""Typer 0.29 has click inside, and exports this child of its usage error alone."""

app = typer.Typer(
    name="sweeps",
    help="Hyperparameter sweeps for Hugging Face Trainers on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(list_)
app.command("plan")(plan)
app.command("run")(run)
app.command("resume")(resume)
app.command("results")(results)
app.command("export")(export)
app.command("ui")(ui)


def main() -> None:
    """Run the verb and exit: 0 done, 1 a fault, 2 the user can fix it, 130 interrupted."""
    _open_closed_streams()
    redact_output()
    try:
        code = app(standalone_mode=False, prog_name="sweeps")
    except _UsageError as error:
        error.show()
        code = 2
    except SweepError as error:
        print_error(str(error))
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if getattr(console.file, "waiting", False):
        # Nobody reads stdout. On a terminal, Ray's colorama writes to it at exit, and would wait.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Give this process the standard streams that it was started without (`>&-`).

    The next file to be opened would take their numbers: the event log could become stdout.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
        print_error("stdout is closed: nothing is printed there")
