"""The state that Python keeps per process: environment, paths, limits, warnings, logging and so on.

Runs in the workers, and in the sweep process (`driver/caller.py`). It must not know about PyTorch
(`torch_switches.py`) or what a job does.
"""

from __future__ import annotations

import decimal
import gc
import locale
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import tracemalloc
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.machinery import PathFinder
from typing import Any

import numpy as np

from sweeps.workers.isolation.switches import Switch, attribute

_LISTS = (*((sys, key) for key in ("argv", "meta_path", "path_hooks")), (gc, "callbacks"))
_ATTRIBUTES = (
    *((sys, key) for key in ("stdin", "stdout", "stderr", "displayhook", "excepthook")),
    *((sys, key) for key in ("unraisablehook", "dont_write_bytecode", "tracebacklimit")),
    (threading, "excepthook"),
    (tempfile, "tempdir"),
    (warnings, "showwarning"),
    (logging, "raiseExceptions"),
    (logging, "lastResort"),
)
_TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")


def common() -> list[Switch]:
    """Return the switches that a sweep may also change in its caller's process."""
    return [
        Switch("os.environ", lambda: dict(os.environ), _set_environment),
        Switch("the working folder", os.getcwd, os.chdir),
        _list(sys, "path"),
        *(attribute(owner, key) for owner, key in _ATTRIBUTES),
        Switch("warnings.filters", lambda: list(warnings.filters), _set_warnings),
        *_limits(),
        *_logging(),
    ]


def find() -> list[Switch]:
    """Return all switches of this process."""
    return [
        *common(),
        _new_loggers(),  # after the others, whose handlers it keeps
        Switch(
            "the main module",
            partial(sys.modules.get, "__main__"),
            partial(sys.modules.__setitem__, "__main__"),
        ),
        *(_list(owner, key) for owner, key in _LISTS),
        # importlib_metadata removes it, in favour of a finder that it adds to `sys.meta_path`.
        attribute(PathFinder, "find_distributions"),
        Switch("sys.setrecursionlimit", sys.getrecursionlimit, sys.setrecursionlimit),
        Switch("sys.setswitchinterval", sys.getswitchinterval, sys.setswitchinterval),
        Switch(
            "sys.set_int_max_str_digits", sys.get_int_max_str_digits, sys.set_int_max_str_digits
        ),
        Switch("sys.settrace", sys.gettrace, sys.settrace),
        Switch("sys.setprofile", sys.getprofile, sys.setprofile),
        Switch("threading.settrace", threading.gettrace, threading.settrace),
        Switch("threading.setprofile", threading.getprofile, threading.setprofile),
        Switch(
            "tracemalloc.start",
            tracemalloc.is_tracing,
            lambda on: tracemalloc.start() if on else tracemalloc.stop(),
        ),
        Switch("gc.enable", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        Switch("gc.set_threshold", gc.get_threshold, lambda counts: gc.set_threshold(*counts)),
        Switch("gc.set_debug", gc.get_debug, gc.set_debug),
        Switch(
            "multiprocessing.set_start_method",
            partial(multiprocessing.get_start_method, allow_none=True),
            partial(multiprocessing.set_start_method, force=True),
        ),
        Switch(
            "locale.setlocale",
            partial(locale.setlocale, locale.LC_ALL),
            partial(locale.setlocale, locale.LC_ALL),
        ),
        Switch("socket.setdefaulttimeout", socket.getdefaulttimeout, socket.setdefaulttimeout),
        attribute(decimal.getcontext(), "prec", "decimal.getcontext()"),
        attribute(decimal.getcontext(), "rounding", "decimal.getcontext()"),
        Switch("numpy.seterr", np.geterr, lambda kinds: np.seterr(**kinds)),
        Switch("numpy.set_printoptions", np.get_printoptions, _set_printoptions),
        Switch("os.umask", _umask, os.umask),
        Switch("os.nice", partial(os.getpriority, os.PRIO_PROCESS, 0), None),
        Switch(
            "os.sched_setaffinity",
            partial(os.sched_getaffinity, 0),
            partial(os.sched_setaffinity, 0),
        ),
        *_timers(),
        *_handlers(),
    ]


def _set_environment(variables: Mapping[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    time.tzset()


def _list(owner: Any, key: str) -> Switch:
    """Return the switch for the items of a list; the list itself stays the same object."""
    own: list[Any] = getattr(owner, key)

    def write(items: list[Any]) -> None:
        own[:] = items
        setattr(owner, key, own)

    return Switch(f"{owner.__name__}.{key}", lambda: list(getattr(owner, key)), write)


def _set_warnings(filters: list[Any]) -> None:
    warnings.resetwarnings()  # also forgets which warnings were shown
    warnings.filters.extend(filters)  # type: ignore[attr-defined]


def _set_printoptions(options: Mapping[str, Any]) -> None:
    np.set_printoptions(**options)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _handlers() -> Iterator[Switch]:
    """Yield the switches of signals that end a process; only the main thread can set handlers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        yield Switch(
            f"signal.signal({number.name})",
            partial(signal.getsignal, number),
            partial(signal.signal, number),
        )


def _timers() -> Iterator[Switch]:
    """Yield the switches of timers that are off; left on, one would end the process by a signal."""
    for name in _TIMERS:
        which = getattr(signal, name)
        if not _runs(which):
            yield Switch(f"signal.setitimer({name})", partial(_runs, which), partial(_stop, which))


def _runs(timer: int) -> bool:
    return signal.getitimer(timer) != (0.0, 0.0)


def _stop(timer: int, _: bool) -> None:
    signal.setitimer(timer, 0)


def _limits() -> Iterator[Switch]:
    for name in sorted(vars(resource)):
        if name.startswith("RLIMIT_"):
            which = getattr(resource, name)
            yield Switch(
                f"resource.setrlimit({name})",
                partial(resource.getrlimit, which),
                partial(resource.setrlimit, which),
            )


def _logging() -> Iterator[Switch]:
    manager = logging.root.manager
    yield Switch("logging.disable", lambda: manager.disable, logging.disable)
    yield Switch(
        "logging.setLogRecordFactory", logging.getLogRecordFactory, logging.setLogRecordFactory
    )
    for logger in _loggers():
        yield Switch(
            f"the logger {logger.name}", partial(_of_logger, logger), partial(_set_logger, logger)
        )


def _new_loggers() -> Switch:
    """Return the switch for loggers that do not exist yet: they are reset to new ones."""
    known = frozenset(_loggers())

    def changed() -> list[logging.Logger]:
        return [each for each in _loggers() if each not in known and _of_logger(each) != _NEW]

    def write(_: list[logging.Logger]) -> None:
        dropped: set[logging.Handler] = set()
        for logger in changed():
            dropped.update(logger.handlers)
            _set_logger(logger, _NEW)
        for handler in dropped.difference(*(logger.handlers for logger in known)):
            handler.close()

    return Switch("new loggers", changed, write)


def _loggers() -> list[logging.Logger]:
    named = logging.root.manager.loggerDict.values()
    return [logging.root, *(each for each in named if isinstance(each, logging.Logger))]


def _of_logger(logger: logging.Logger) -> tuple[Any, ...]:
    return (
        logger.level,
        list(logger.handlers),
        list(logger.filters),
        logger.propagate,
        logger.disabled,
    )


_NEW: tuple[Any, ...] = (logging.NOTSET, [], [], True, False)
"""What `_of_logger` returns for a new logger."""


def _set_logger(logger: logging.Logger, values: tuple[Any, ...]) -> None:
    level, logger.handlers[:], logger.filters[:], logger.propagate, logger.disabled = values
    logger.setLevel(level)
