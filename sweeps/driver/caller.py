"""Restores the caller's process: `sweeps.run` is a guest in a program or a notebook.

Runs in the sweep process, around a whole sweep. It must not know who changes what: Ray, Tune,
Hugging Face's libraries and `sweeps` all do.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ray import cloudpickle

from sweeps.workers.isolation import process_switches
from sweeps.workers.isolation.switches import Switch, Switches


@contextmanager
def as_found() -> Iterator[None]:
    """On exit, restore this process's state, including what other threads changed meanwhile.

    This covers what `process_switches.common` finds, signal handlers (only in the main thread,
    where they can be set), `faulthandler`, and the modules that cloudpickle pickles by value.

    Not restored: imported modules and what they did when imported (Ray's `sys.excepthook`, Optuna's
    and transformers' loggers), new loggers, functions registered with `atexit`, and logging
    handlers that were closed meanwhile.
    """
    found = Switches(
        [
            *process_switches.common(),
            Switch("signal.signal", _signals, _set_signals),
            Switch("faulthandler.enable", faulthandler.is_enabled, _set_faulthandler),
            Switch(
                "cloudpickle.register_pickle_by_value",
                cloudpickle.list_registry_pickle_by_value,
                _set_pickled_by_value,
            ),
        ]
    )
    try:
        yield
    finally:
        found.put_back()


def _signals() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _set_signals(handlers: Mapping[int, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number, handler in handlers.items():
        # None: it was not set by Python, so it cannot be restored.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _set_faulthandler(on: bool) -> None:
    if not on:
        faulthandler.disable()


def _set_pickled_by_value(names: set[str]) -> None:
    for name in cloudpickle.list_registry_pickle_by_value() - names:
        cloudpickle.unregister_pickle_by_value(ModuleType(name))
