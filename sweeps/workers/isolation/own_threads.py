"""The threads that a job leaves behind, and that still run the user's code.

Runs in the workers, around each job. It must not know what a thread does. The idle threads that
libraries keep for later calls are not among them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from sweeps.space.user_code import is_own

WAIT_S = 1.0
"""Seconds that a thread has to end after its job."""
LOOK_S = 0.02
"""Seconds between two looks at such threads."""


class OwnThreads:
    """The threads that begin after this was created and run the user's code."""

    def __init__(self) -> None:
        self._before = frozenset(threading.enumerate())

    def left(self) -> list[str]:
        """Return the names of those that do not end within `WAIT_S`."""
        deadline = time.monotonic() + WAIT_S
        while (names := [*self._names()]) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        return names

    def _names(self) -> Iterator[str]:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            frame = frames.get(thread.ident or 0)
            if thread not in self._before and any(map(_is_own, _stack(frame))):
                yield f"the thread {thread.name}"


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_own(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] != "sweeps" and is_own(frame.f_code.co_filename)
