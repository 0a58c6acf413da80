"""A live view at the bottom of a terminal, below the lines that are printed meanwhile.

Runs in the sweep process. It must not know what is shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from rich.console import RenderableType
from rich.live import Live

from sweeps.cli.console import LockedConsole

EVERY_S = 0.25
"""Time between two updates."""


class LiveView:
    """Draws a view again and again until it is closed, which removes it.

    Args:
        view: Returns what to draw; called in a separate thread.
        console: The terminal.
    """

    def __init__(self, view: Callable[[], RenderableType], console: LockedConsole) -> None:
        self._console = console
        self._live = Live(
            get_renderable=view,
            console=console,
            transient=True,
            auto_refresh=False,  # rich's own thread does not take our lock
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._closed = threading.Event()
        self._live.start()
        threading.Thread(target=self._run, name="live view", daemon=True).start()

    def refresh(self) -> None:
        """Draw the view now, unless it is closed."""
        with self._console.printing:
            if not self._closed.is_set():
                self._live.refresh()

    def close(self) -> None:
        """Remove the view."""
        with self._console.printing:
            self._closed.set()
            self._live.stop()

    def _run(self) -> None:
        while not self._closed.wait(EVERY_S):
            self.refresh()
