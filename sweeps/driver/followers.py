"""Followers watch a sweep without slowing it down: a live table, plain lines, or a user's code.

Runs in the sweep process. Followers are called from a queue in a separate thread; the sweep never
waits for them. It must not know what a follower does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sweeps.amounts import counted
from sweeps.answer.answer import Answer
from sweeps.config import SweepConfig
from sweeps.records.events import Event
from sweeps.records.folder import SweepFolder
from sweeps.report import Steps
from sweeps.schedulers.base import Scheduler
from sweeps.space.search_space import SearchSpace

if TYPE_CHECKING:  # imports torch, which `sweeps.load` need not wait for
    from sweeps.planning.layout import Layout

QUEUED = 100_000
"""Maximum number of events that wait for slow followers. Each takes about 300 bytes in addition to
the report, which the history keeps anyway. Followers miss all later events."""
PATIENCE_S = 10.0
"""At the end of a sweep, `sweeps` stops waiting for followers after this long without progress."""

logger = logging.getLogger("sweeps")


@dataclass(frozen=True, kw_only=True)
class SweepStart:
    """What followers are told first."""

    folder: SweepFolder
    space: SearchSpace
    config: SweepConfig
    new_scheduler: Callable[[], Scheduler]
    """Makes a scheduler like the sweep's own, for a forecast."""
    layout: Layout
    """How the worker groups fit the cluster."""
    past: Sequence[Event]
    """The events so far of a resumed or confirmed sweep; empty for a new one."""
    confirms: bool
    """Whether this confirms a sweep that has ended, so that `OfConfirmation` events follow."""


@dataclass(frozen=True)
class Stage:
    """What a sweep waits for before its first trial starts; lasts until the next stage begins."""

    name: str
    """The name, such as `starting Ray`."""


@runtime_checkable
class Follower(Protocol):
    """Watches a sweep. All methods are called in one thread, one call at a time.

    The thread belongs to the followers: a call that blocks delays other followers, never the sweep.
    A follower that raises an exception is not called again.
    """

    def begin(self, start: SweepStart) -> None:
        """Take in what runs and where; notes and stages may come earlier."""

    def event(self, event: Event) -> None:
        """Take in an event of the log, in log order."""

    def note(self, text: str) -> None:
        """Take in a line for the user."""

    def live(self, state: Stage | Steps) -> None:
        """Take in what the sweep is doing right now, which is not logged."""

    def end(self, answer: Answer) -> None:
        """Take in how the sweep ended: called once for each `begin`; notes may follow."""


class Followers:
    """Calls followers from a queue; its methods return at once, whatever the followers do.

    A context manager: on exit, it waits until all calls are done, or until `PATIENCE_S` pass
    without one.

    Args:
        followers: Called in this order.
    """

    def __init__(self, followers: Sequence[Follower]) -> None:
        self._followers = list(followers)
        self._queue: SimpleQueue[Callable[[Follower], None] | threading.Event | None]
        self._queue = SimpleQueue()
        self.begun = False
        """Whether the followers were told what runs; the event log is open by then."""
        self._ended = False
        self._missed = 0
        self._done = 0
        """Number of calls taken from the queue and made."""
        self._stuck_at: int | None = None
        """The number of calls made when `sweeps` last gave up waiting."""
        # A daemon thread, so that a stalled reader of stdout cannot keep the process alive.
        self.thread = threading.Thread(target=self._run, name="followers", daemon=True)

    def __enter__(self) -> Followers:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)

        def have_ended(within_s: float) -> bool:
            self.thread.join(within_s)
            return not self.thread.is_alive()

        self._wait_for(have_ended)

    def wait(self) -> None:
        """Wait until all calls so far are made, or until `PATIENCE_S` pass without one."""
        reached = threading.Event()
        self._queue.put(reached)
        self._wait_for(reached.wait)

    def _wait_for(self, happened: Callable[[float], bool]) -> None:
        done = self._done
        while not happened(0.0 if self._done == self._stuck_at else PATIENCE_S):
            if self._done == done:
                self._stuck_at = done
                logger.info(
                    "followers made no progress for %.0f s; not waiting for their last %d calls",
                    PATIENCE_S,
                    self._queue.qsize(),
                )
                return
            done = self._done

    def begin(self, start: SweepStart) -> None:
        """Tell the followers what runs, and where."""
        self.begun = True
        self._queue.put(lambda follower: follower.begin(start))

    def event(self, event: Event) -> None:
        """Tell the followers of an event."""
        # Followers fold events, so they get the log without gaps, and nothing after a gap.
        if self._missed or self._queue.qsize() >= QUEUED:
            self._missed += 1
        else:
            self._queue.put(lambda follower: follower.event(event))

    def note(self, text: str) -> None:
        """Give the followers a line for the user."""
        self._queue.put(lambda follower: follower.note(text))

    def live(self, state: Stage | Steps) -> None:
        """Tell the followers what the sweep is doing right now."""
        if self._queue.qsize() < QUEUED:
            self._queue.put(lambda follower: follower.live(state))

    def end(self, find: Callable[[], Answer]) -> None:
        """Tell the followers what the sweep found, unless they know already or it never began."""
        if self._ended or not self.begun:
            return
        self._ended = True
        answer = find()
        if self._missed:
            lost = counted(self._missed, "event")
            self.note(f"not shown, because the output was read too slowly: {lost}")
        self._queue.put(lambda follower: follower.end(answer))

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            if isinstance(call, threading.Event):
                call.set()
                continue
            for follower in list(self._followers):
                self._make(call, follower)
            self._done += 1

    def _make(self, call: Callable[[Follower], None], follower: Follower) -> None:
        if follower not in self._followers:
            return
        try:
            call(follower)
        except Exception as error:
            self._followers.remove(follower)
            what = f"a follower failed ({type(follower).__name__}): {type(error).__name__}: {error}"
            logger.error("%s", what, exc_info=error)
            for other in list(self._followers):
                self._make(lambda o: o.note(f"{what}; the sweep continues without it"), other)
