"""Turns Ctrl-C, SIGTERM and SIGHUP into one call.

Runs in the sweep process, in its main thread only. It must not know what the call ends.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sweeps.ending_signals import ENDING, hangup_is_ignored

PATIENCE_S = 10.0
"""Seconds to wait for the thread, which may be calling a Ray cluster that is gone."""


@contextmanager
def interrupts(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` in a thread at the first Ctrl-C, SIGTERM or SIGHUP; on exit, wait for that thread.

    A second Ctrl-C is handled by Python. A second SIGTERM changes nothing: GNU `timeout` sends two
    at once, to the process and to its group; so may a terminal that closes send two SIGHUPs. A
    SIGHUP that is ignored, as under `nohup`, stays so. Outside the main thread, where Python allows
    no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: object) -> None:
        if number != signal.SIGINT:
            before[number] = lambda *_: None
        signal.signal(number, before[number])
        # Not in the handler: the signal may have interrupted a call to Ray that holds locks.
        ending.append(threading.Thread(target=end, name="interrupt"))
        ending[-1].start()

    numbers = set(ENDING) - ({signal.SIGHUP} if hangup_is_ignored() else set())
    ending: list[threading.Thread] = []
    before = {int(n): signal.signal(n, handle) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for thread in ending:
            thread.join(PATIENCE_S)
