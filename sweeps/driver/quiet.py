"""Sends what Ray, Tune and `sweeps` log or print to a file while a cluster is in use.

Runs in the sweep process, and in `plan`. It must not know how Ray is started, nor import it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from sweeps.secrets import redact_stream

LEVELS = {
    # Tune looks for result files of its loggers, which are switched off.
    "ray.tune.analysis.experiment_analysis": logging.ERROR,
    "optuna": logging.WARNING,  # it logs each new study
}
"""Levels of other libraries' loggers while a sweep runs."""


class _Printed:
    """A stdout that sends one thread's output to one stream, and all other output to another."""

    def __init__(self, thread: threading.Thread | None, own: TextIO, others: TextIO) -> None:
        self._thread = thread
        self._own = own
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(
            self._own if threading.current_thread() is self._thread else self._others, name
        )


@contextmanager
def quiet(path: Path, loud: threading.Thread | None = None) -> Iterator[None]:
    """Send what Ray, Tune and `sweeps` log or print here to a file, without secrets.

    Args:
        path: The file.
        loud: A thread whose output goes to the old stdout and stderr.
    """
    handler = logging.FileHandler(path)
    assert handler.stream is not None
    redact_stream(handler.stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("ray", "sweeps", *LEVELS)]
    before = [(logger, logger.level, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        if logger.name in LEVELS:
            logger.setLevel(LEVELS[logger.name])
        else:
            logger.handlers, logger.propagate = [handler], False
    stdout, stderr = (
        cast(TextIO, _Printed(loud, stream, handler.stream)) for stream in (sys.stdout, sys.stderr)
    )
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            yield
    finally:
        for logger, level, handlers, propagate in before:
            logger.setLevel(level)
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()
