"""The entry point of the command line: combines the verbs, and turns errors into exit codes.

Runs first in every invocation. It must not import what only one verb needs.
"""

from __future__ import annotations

import gc
import importlib.metadata
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, TextIO

import typer

from sweeps.cli.compare_command import compare
from sweeps.cli.confirm_command import confirm
from sweeps.cli.console import console, print_error, print_to
from sweeps.cli.delete_command import delete
from sweeps.cli.export_command import export
from sweeps.cli.list_command import list_
from sweeps.cli.logs_command import logs
from sweeps.cli.plan_command import plan
from sweeps.cli.report_command import report
from sweeps.cli.results_command import results
from sweeps.cli.resume_command import resume
from sweeps.cli.run_command import run
from sweeps.cli.script_options import misplaced_hint
from sweeps.cli.ui_command import ui
from sweeps.durable import cannot_write
from sweeps.ending_signals import hangup_is_ignored
from sweeps.errors import RayIsGone, SweepError
from sweeps.secrets import redact_output

INTERRUPTED = 130
_UsageError: Any = typer.BadParameter.__bases__[0]
"""Typer 0.29 contains click, and exports only this subclass of its usage error."""

app = typer.Typer(
    name="sweeps",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"sweeps {importlib.metadata.version('sweeps')}")
        raise typer.Exit


@app.callback()
def _sweeps(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Hyperparameter sweeps for Hugging Face Trainers on Ray."""


GROUPS: dict[str, dict[str, Callable[..., None]]] = {
    "Run": {"plan": plan, "run": run, "resume": resume, "confirm": confirm},
    "Look": {
        "list": list_,
        "results": results,
        "report": report,
        "compare": compare,
        "logs": logs,
        "ui": ui,
    },
    "Keep or delete": {"export": export, "delete": delete},
}
"""The verbs as `--help` groups them."""
for _group, _verbs in GROUPS.items():
    for _name, _verb in _verbs.items():
        app.command(_name, rich_help_panel=_group)(_verb)


def main() -> None:
    """Run the verb and exit: 0 success, 1 failure, 2 user error, 130 interrupted."""
    print_to(_open_closed_streams())
    redact_output()
    unwritten = _failed_writes(sys.stdout)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as after Ctrl-C
    if not hangup_is_ignored():
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    leave: Callable[[int], Any] = sys.exit
    try:
        code = app(standalone_mode=False, prog_name="sweeps")
    except _UsageError as error:
        usage = io.StringIO()
        error.show(usage)
        print_error(usage.getvalue().rstrip())
        option = getattr(error, "option_name", None)
        if option is not None and (hint := misplaced_hint(option, sys.argv[1:])):
            print_error(hint)
        code = 2
    except SweepError as error:
        print_error(str(error))
        code = error.exit_code
        if isinstance(error, RayIsGone):
            leave = os._exit  # Ray's exit handlers would hang
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except OSError as error:
        if error in unwritten:
            print_error(f"cannot write to stdout ({error.strerror})")
            code = 1
        elif (known := cannot_write(error)) is not None:
            print_error(str(known))
            code = known.exit_code
        else:
            raise
    if getattr(console.file, "waiting", False):
        leave = os._exit  # a thread still waits for a reader: Python may abort if it cleans up
    elif not _can_flush(sys.stdout):
        # Without this, Python would flush stdout again at exit, and fail; on a terminal, Ray's
        # colorama would write to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    console.file = None  # type: ignore[assignment]
    gc.freeze()  # Python collects garbage before it exits, which takes seconds with torch and Ray
    leave(code or 0)


def _failed_writes(stdout: TextIO) -> list[OSError]:
    """Return a list that collects the errors of writes to stdout: `--help` bypasses the console."""
    failed: list[OSError] = []

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            try:
                return call(*args)
            except OSError as error:
                failed.append(error)
                raise

        return noted

    for name in ("write", "flush"):
        setattr(stdout, name, noting(getattr(stdout, name)))
    return failed


def _can_flush(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):  # ValueError: it is closed
        return False
    return True


def _open_closed_streams() -> TextIO | None:
    """Open the standard streams that this process was started without (`>&-`).

    Otherwise the next opened file would take their numbers: the event log could become stdout.
    Returns the original stdout; None if it was closed.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    before: TextIO | None = sys.stdout
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    return before
