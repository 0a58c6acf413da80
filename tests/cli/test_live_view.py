"""A live view and the lines above it, on a terminal."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from sweeps.cli.console import LockedConsole
from sweeps.cli.live_view import LiveView


def screen(written: str) -> list[str]:
    """What a terminal shows after these bytes: cursor up, erase line and carriage return."""
    rows, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            rows += [""] * (row == len(rows))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            rows[row] = ""
        elif part[0] not in "\x1b\r":
            rows[row] = part  # whatever is drawn here begins at the left
    return [line.rstrip() for line in rows if line.strip()]


def test_a_line_printed_while_the_view_grows_stays_and_leaves_no_part_of_the_view():
    written = io.StringIO()
    console = LockedConsole(file=written, force_terminal=True, width=80)
    trials = ["t001 running"]
    view = LiveView(lambda: Text("\n".join(["trial status", *trials])), console)

    class Line:
        """While this is rendered, the other thread wants to draw a view that has grown."""

        def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
            trials.append("t002 running")
            drawing = threading.Thread(target=view.refresh)
            drawing.start()
            drawing.join(0.1)
            yield Text("t001 finished")

    view.refresh()
    console.print("smoke run took 2s")
    console.print(Line())
    console.print("t002 finished")
    view.refresh()
    assert screen(written.getvalue()) == [
        "smoke run took 2s",
        "t001 finished",
        "t002 finished",
        "trial status",
        "t001 running",
        "t002 running",
    ]
    view.close()
    assert screen(written.getvalue()) == ["smoke run took 2s", "t001 finished", "t002 finished"]
