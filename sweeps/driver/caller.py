"""The caller's process, left as it was found: `sweeps.run` is a guest in a program or a notebook.

Runs in the sweep process, around a whole sweep. It must not know who changes what: Ray, Tune,
Hugging Face's libraries and `sweeps` all do.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType

from ray import cloudpickle

HOOKS = (
    *((sys, name) for name in ("stdout", "stderr", "excepthook", "unraisablehook", "displayhook")),
    (threading, "excepthook"),
)


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables, None: unset; on leaving, they are as they were before."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def as_found() -> Iterator[None]:
    """On leaving, put this process back as it was; what other threads changed meanwhile, too.

    That is: environment variables, `sys.path`, the working folder, standard streams, hooks for
    exceptions, signal handlers (in the main thread, where alone they can be set), `faulthandler`,
    the limit of open files, warnings filters, modules that cloudpickle takes by value, and of
    `logging` the record factory and every logger that existed: level, handlers, filters,
    propagation.

    What stays: imported modules with what they did at import (Ray's `sys.excepthook`, Optuna's and
    transformers' loggers), loggers made meanwhile, functions registered with `atexit`, and logging
    handlers that were closed meanwhile.
    """
    with ExitStack() as stack:
        for look in (_files_and_paths, _variables, _hooks, _signals, _logging, _pickled_by_value):
            stack.callback(look())
        stack.enter_context(warnings.catch_warnings())
        yield


# Each looks at a part of the process, and returns what puts it back.


def _variables() -> Callable[[], None]:
    before = dict(os.environ)

    def put_back() -> None:
        _set({**dict.fromkeys(os.environ), **before})

    return put_back


def _files_and_paths() -> Callable[[], None]:
    path, folder = list(sys.path), os.getcwd()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)

    def put_back() -> None:
        sys.path[:] = path
        os.chdir(folder)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return put_back


def _hooks() -> Callable[[], None]:
    before = [(module, name, getattr(module, name)) for module, name in HOOKS]
    faults = faulthandler.is_enabled()

    def put_back() -> None:
        for module, name, hook in before:
            setattr(module, name, hook)
        if not faults:
            faulthandler.disable()

    return put_back


def _signals() -> Callable[[], None]:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def put_back() -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in before.items():
            # None: set by other means than Python's, and nobody can put it back.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return put_back


def _logging() -> Callable[[], None]:
    factory, manager = logging.getLogRecordFactory(), logging.root.manager
    disabled = manager.disable
    loggers = [each for each in manager.loggerDict.values() if isinstance(each, logging.Logger)]
    before = [
        (each, each.level, list(each.handlers), list(each.filters), each.propagate, each.disabled)
        for each in (logging.root, *loggers)
    ]

    def put_back() -> None:
        logging.setLogRecordFactory(factory)
        for each, level, handlers, filters, propagate, off in before:
            each.setLevel(level)
            each.handlers[:], each.filters[:] = handlers, filters
            each.propagate, each.disabled = propagate, off
        logging.disable(disabled)

    return put_back


def _pickled_by_value() -> Callable[[], None]:
    before = cloudpickle.list_registry_pickle_by_value()

    def put_back() -> None:
        for name in cloudpickle.list_registry_pickle_by_value() - before:
            cloudpickle.unregister_pickle_by_value(ModuleType(name))

    return put_back
