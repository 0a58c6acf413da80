"""Ctrl-C, SIGTERM and SIGHUP end a sweep once; what comes after the first."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from sweeps.driver.interrupts import interrupts
from sweeps.ending_signals import ENDING


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Python's own for all, as in the command line."""
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_further_signal_changes_nothing_to_the_end_of_the_process(number: int):
    """GNU `timeout` sends two at once: to the process, and to its group."""
    ended = threading.Semaphore(0)
    with interrupts(ended.release):
        send(number)
        send(number)
        assert ended.acquire(timeout=10)
    send(number)
    assert not ended.acquire(blocking=False)


def test_a_sweep_that_outlives_its_terminal_goes_on():
    """As `nohup` wants it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ended = threading.Semaphore(0)
    with interrupts(ended.release):
        send(signal.SIGHUP)
        assert not ended.acquire(timeout=0.2)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_second_ctrl_c_is_pythons_own():
    ended = threading.Semaphore(0)
    with interrupts(ended.release):
        send(signal.SIGINT)
        assert ended.acquire(timeout=10)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)


def test_what_the_signal_has_started_is_over_when_the_round_is(monkeypatch: pytest.MonkeyPatch):
    """It may hold the last handle of an actor, which must be gone before Ray is left."""
    waited_for, ended = threading.Event(), []
    join = threading.Thread.join

    def joined(thread: threading.Thread, timeout: float | None = None) -> None:
        waited_for.set()
        join(thread, timeout)

    def end() -> None:
        waited_for.wait()
        ended.append(threading.current_thread())

    monkeypatch.setattr(threading.Thread, "join", joined)
    with interrupts(end):
        send(signal.SIGINT)
    assert [thread.is_alive() for thread in ended] == [False]
