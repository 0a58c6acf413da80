"""The command line's entry: the verbs put together, errors turned into exit codes.

Runs first in every invocation. It must not import what only one verb needs.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from sweeps.cli.console import errors
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
    help="Hyperparameter sweeps over Hugging Face Trainers on Ray.",
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
    redact_output()
    try:
        code = app(standalone_mode=False, prog_name="sweeps")
    except _UsageError as error:
        error.show()
        code = 2
    except SweepError as error:
        errors.print(str(error), markup=False)
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code)
