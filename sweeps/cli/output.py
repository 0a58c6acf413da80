"""A stream that is written without harm to this process, whatever its reader does.

Runs in the sweep process and in every verb, behind the console. It must not know what is written.
"""

from __future__ import annotations

import io
import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO


class Output:
    """A text stream whose reader may stop reading or go away without harm to this process.

    A file, a pipe or a terminal is written without Python's buffer: a thread waiting there for a
    reader would hold a lock that Python needs when it exits.

    Args:
        stream: Where the text goes; None if it is closed.
        patience_s: A write fails if the reader delays it for longer; None: it waits forever.
        failed: Called once, with the reason, if the stream cannot be written; nothing is written
            from then on.
    """

    def __init__(
        self,
        stream: TextIO | None,
        failed: Callable[[str], None],
        patience_s: float | None = None,
    ) -> None:
        self.failed = failed
        self._stream = stream
        self._patience_ms = None if patience_s is None else patience_s * 1000
        self.ended = False
        """Whether nothing more can be written: the reader is gone, or a write failed."""
        self._poll = select.poll()
        self._file: int | None = None
        # A notebook's stream also has a file number, but of another file. FileIO: `python -u`.
        if type(stream) is io.TextIOWrapper and isinstance(
            stream.buffer, io.BufferedWriter | io.FileIO
        ):
            with suppress(OSError):  # the next write will report it
                stream.flush()
            self._file = stream.fileno()
            self._poll.register(self._file, select.POLLOUT)
        # Kept as it is now: later, the output of people and libraries is redacted, but not ours.
        self._write_text = None if stream is None else stream.write
        self.waiting = False
        """Whether a write is in progress, which may be waiting for a reader."""

    @property
    def encoding(self) -> str:
        """The stream's encoding."""
        return (self._stream and self._stream.encoding) or "utf-8"

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def write(self, text: str) -> int:
        """Write the text."""
        if self.ended:
            return len(text)
        self.waiting = True
        try:
            self._write(text)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.ended = True
            if not isinstance(error, BrokenPipeError):  # `| head` is normal use
                self.failed(getattr(error, "strerror", None) or str(error))
        finally:
            self.waiting = False
        return len(text)

    def _write(self, text: str) -> None:
        if self._stream is None or self._write_text is None:
            raise ValueError("it is closed")
        if self._file is None:
            self._write_text(text)
            self._stream.flush()
            return
        left = text.encode(self.encoding, "replace")
        while left:
            if not self._poll.poll(self._patience_ms):
                raise TimeoutError("nobody is reading it")
            with suppress(BlockingIOError):  # a terminal may accept less than `poll` says
                left = left[os.write(self._file, left[: select.PIPE_BUF]) :]
