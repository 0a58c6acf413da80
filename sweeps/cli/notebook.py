"""Shows a sweep in a notebook: in a single cell output, which updates.

Runs in the kernel's process. It must not know what is shown, and must not clear anything.
"""

from __future__ import annotations

import html
import importlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from ray.widgets.util import in_notebook
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from sweeps.cli.console import console

__all__ = ["Cell", "html_table", "in_notebook", "preformatted", "print_in_cell"]

COLUMNS = 120
"""Width of the live view."""
EVERY_S = 1.0
"""Seconds between two updates."""


class Cell:
    """One cell output: what was printed and, below it, what is happening right now.

    It is the stream that the console prints to.
    """

    encoding = "utf-8"
    waiting = False
    """In a notebook, no write waits for a reader."""

    def __init__(self) -> None:
        # IPython is not a dependency: anyone who runs a notebook has it.
        show: Any = importlib.import_module("IPython.display").display
        self._printed: list[str] = []
        self._view: Callable[[], RenderableType] | None = None
        self._ended = threading.Event()
        self._output = show(self._content(), raw=True, display_id=True)
        # Separate from the thread that prints, so that a busy sweep does not flood the page.
        self._refresh = threading.Thread(target=self._run, name="notebook", daemon=True)
        self._refresh.start()

    def write(self, text: str) -> int:
        """Add text, which is shown at the next update."""
        self._printed.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the next update shows it."""

    def isatty(self) -> bool:
        """Return False: there is no cursor."""
        return False

    def show(self, view: Callable[[], RenderableType] | None) -> None:
        """Show a view below the text from now on; None removes it."""
        self._view = view

    def close(self) -> None:
        """Show everything that was printed, and stop updating."""
        self._view = None
        self._ended.set()
        self._refresh.join()

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._update()
        self._update()

    def _update(self) -> None:
        self._output.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        """Return text and view in the formats that a notebook may show."""
        printed = "".join(list(self._printed))
        shown = html.escape(printed)
        view = self._view  # read once: another thread may reset it
        if view is not None:
            recorded = Console(
                file=io.StringIO(),
                width=COLUMNS,
                record=True,
                force_jupyter=False,
                emoji=False,
                markup=False,
            )
            recorded.print(view())
            shown += recorded.export_html(inline_styles=True, code_format="{code}", clear=False)
            printed += recorded.export_text()
        return {"text/plain": printed, "text/html": _pre(shown)}


@contextmanager
def print_in_cell() -> Iterator[Cell]:
    """Print into one output of the cell that runs; yields it."""
    before, cell = console.file, Cell()
    console.file = cast(TextIO, cell)
    try:
        yield cell
    finally:
        console.file = before
        cell.close()


def html_table(table: Table) -> str:
    """Return a table as HTML, with its title."""

    def row(kind: str, cells: list[Any]) -> str:
        return f"<tr>{''.join(f'<{kind}>{_escaped(cell)}</{kind}>' for cell in cells)}</tr>"

    columns = table.columns
    rows = zip(*(column.cells for column in columns), strict=True)
    return (
        f"<table><caption>{_escaped(table.title)}</caption>"
        f"<thead>{row('th', [column.header for column in columns])}</thead>"
        f"<tbody>{''.join(row('td', list(cells)) for cells in rows)}</tbody></table>"
    )


def preformatted(text: str) -> str:
    """Return lines of text as HTML."""
    return _pre(html.escape(text))


def _pre(shown: str) -> str:
    return f'<pre style="white-space: pre-wrap; line-height: 1.3">{shown}</pre>'


def _escaped(cell: Any) -> str:
    return html.escape(cell.plain if isinstance(cell, Text) else str(cell))
