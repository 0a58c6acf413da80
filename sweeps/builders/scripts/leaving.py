"""Leaves a running script for good: nothing of it runs any more, not even a `finally`.

Runs where a script runs: in a worker, in the model process, or in that of a dry run. It must not
know why the script is left.

An exception alone would run the script's own handlers: `finally: trainer.save_model()` would save
an untrained model in the user's folder, and `with mlflow.start_run():` would end a failed run. No
exception passes a `finally`, and a frame cannot be dropped before it ends. But CPython (3.11 to
3.13) looks up the handlers of a frame in `co_exceptiontable` of its code, and only once an
exception arrives. So while the script is left, this table is empty in all code of the user that is
running. The table of an object of C is read-only for Python code, hence `ctypes`.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from traceback import StackSummary
from types import CodeType, FrameType, GeneratorType
from typing import Any, NoReturn

from sweeps.space.user_code import is_own

_EMPTY = b""


class Left(BaseException):
    """Ends the frames of a script that is left."""


class Exit:
    """Runs a script, and lets it be left from inside."""

    def __init__(self) -> None:
        self._file = ""
        self._outside: FrameType | None = None
        self._disarmed: list[tuple[ctypes.c_void_p, bytes]] = []

    def run(self, code: CodeType, names: dict[str, Any]) -> None:
        """Run the script's code until it ends, raises or is left."""
        self._file, self._outside = code.co_filename, sys._getframe()
        try:
            exec(code, names)
        except Left:
            pass
        finally:
            self._outside = None
            for place, table in self._disarmed:
                place.value = id(table)
            self._disarmed.clear()

    def leave(self) -> NoReturn:
        """End all frames of the script, if it is running, and none of their handlers runs."""
        running = self._running() if self._outside is not None else ()
        # By identity: two code objects may be equal.
        for code in {id(each): each for each in running if each.co_exceptiontable}.values():
            table = code.co_exceptiontable
            place = _place(code, table)
            self._disarmed.append((place, table))
            place.value = id(_EMPTY)
            assert code.co_exceptiontable == _EMPTY
        raise Left

    def lines(self) -> StackSummary:
        """Return the lines of the script that are running, outermost first."""
        frames = [(frame, frame.f_lineno) for frame in self._frames()]
        return StackSummary.extract(reversed(frames))

    def _frames(self) -> Iterator[FrameType]:
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame is not self._outside:
            if self._is_own(frame.f_code):
                yield frame
            frame = frame.f_back

    def _running(self) -> Iterator[CodeType]:
        """Yield the code of its frames, and of its generators: a `with` may be one."""
        yield from (frame.f_code for frame in self._frames())
        for each in gc.get_objects():
            if type(each) is GeneratorType and self._is_own(each.gi_code):
                yield each.gi_code

    def _is_own(self, code: CodeType) -> bool:
        return code.co_filename == self._file or is_own(code.co_filename)


def _place(code: CodeType, table: bytes) -> ctypes.c_void_p:
    """Return where a code object refers to its table of handlers."""
    size = ctypes.sizeof(ctypes.c_void_p)
    places = [
        ctypes.c_void_p.from_address(id(code) + offset)
        for offset in range(0, type(code).__basicsize__, size)
    ]
    (place,) = (each for each in places if each.value == id(table))
    return place
