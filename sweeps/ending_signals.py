"""The signals that end a sweep: Ctrl-C, SIGTERM, and SIGHUP, which a terminal sends when it closes.

Runs in the sweep process. It must not know what they end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a sweep."""


def hangup_is_ignored() -> bool:
    """Tell whether this process outlives its terminal, as under `nohup`."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@contextmanager
def held_back() -> Iterator[None]:
    """Let the signals that end a sweep take effect only after the body, which forks.

    Python drops an exception that is raised in a hook for forks, and a lock that the hook has not
    released yet stays locked: that of `logging`, on which the sweep would then hang. It is not
    enough to block a signal, because another thread may receive it; the main thread handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # the handlers run in the main thread, so not in a hook
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in ENDING}
    # None: it was not set by Python, so it could not be restored.
    before = {number: handler for number, handler in handlers.items() if handler is not None}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
