"""The console: lines for a person, errors, JSON, and the command that was typed.

Runs in the sweep process and in every verb. It must not know what a value is for.
"""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console, RenderableType

from sweeps.cli.output import Output
from sweeps.errors import SweepError
from sweeps.secrets import redact

WIDE = 200
"""Width without a terminal, so that nothing is cut off in a file."""
STDERR_PATIENCE_S = 10.0
"""Seconds that a message waits for a reader of stderr, which may be a pipe that nobody reads."""


class LockedConsole(Console):
    """A console that one thread uses at a time.

    rich (15.0) places the cursor by the height of the live view before it renders what is printed,
    and releases its lock in between. If another thread draws the view then, printed lines are
    overwritten, and parts of the view stay on the screen.
    """

    printing = threading.RLock()
    """Held while something is printed or drawn."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print when no other thread does."""
        with self.printing:
            super().print(*objects, **options)

    def on_broken_pipe(self) -> None:
        """Print nothing more: the reader has stopped (`| head`)."""
        self.quiet = True


console = LockedConsole(
    highlight=False,
    soft_wrap=True,
    emoji=False,
    markup=False,  # otherwise `[INST]` in a value would be taken for a style
    force_jupyter=False,  # otherwise each line would be a separate output; see `notebook.py`
    width=None if sys.stdout and sys.stdout.isatty() else WIDE,
)


def print_to(stdout: TextIO | None) -> None:
    """Let the console print to this stdout (None if closed); a verb that cannot print ends."""
    console.file = cast(TextIO, Output(stdout, failed=_end))


def _end(why: str) -> None:
    raise SweepError(f"cannot write to stdout ({why})")


@contextmanager
def stdout_may_fail(then: str) -> Iterator[Output]:
    """Let the block continue even if it cannot print; yield what the console prints to.

    Args:
        then: What the error message says about continuing.
    """
    before: Any = console.file if isinstance(console.file, Output) else None
    stdout = before or Output(sys.stdout, failed=_end)  # None: called from Python
    stdout.failed = lambda why: print_error(f"cannot write to stdout ({why}); {then}")
    console.file = cast(TextIO, stdout)
    try:
        yield stdout
    finally:
        console.file = before


def say(text: str) -> None:
    """Print lines for a person; a terminal breaks them between words."""
    console.print(text, soft_wrap=not console.is_terminal)


def say_loading(name: str) -> None:
    """Say on a terminal what is being loaded: torch and Ray alone may take long."""
    if console.is_terminal:
        say(f"loading {name}")


def fits(table: RenderableType) -> bool:
    """Tell whether the console is wide enough for a table."""
    free = console.options.update(width=WIDE)
    return console.measure(table, options=free).maximum <= console.width


def print_json(value: Any) -> None:
    """Print the value as JSON."""
    console.file.write(json.dumps(value, indent=2) + "\n")


def print_error(text: str) -> None:
    """Print to stderr without secrets, like `say`, unless nobody reads that either."""
    stderr = cast(TextIO, Output(sys.stderr, lambda _: None, STDERR_PATIENCE_S))
    plain = Console(
        file=stderr, highlight=False, soft_wrap=not stderr.isatty(), emoji=False, markup=False
    )
    plain.print(redact(text))


def this_command() -> str:
    """Return the `sweeps` command line that this process was started with."""
    return shlex.join(["python", "-m", "sweeps", *sys.argv[1:]])
