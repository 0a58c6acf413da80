"""A tracker's process: `python -m sweeps.trackers.follow TRACKER SWEEP_FOLDER`.

It follows the event log, passes new events to the tracker, and ends when the log does. It must not
touch the sweep: whatever a tracker does, training never waits.

It can be killed and restarted at any time, even long after the sweep: it picks up where the tracker
left off, and its writes are idempotent.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import math
import os
import signal
import sys
import time
from itertools import islice
from pathlib import Path

from sweeps.answer.answer import find_answer
from sweeps.errors import SweepError, UserError
from sweeps.records.event_log import is_held, read_events
from sweeps.records.folder import SweepFolder
from sweeps.records.history import sweep_status
from sweeps.records.sweep_record import read_record
from sweeps.secrets import redact_output
from sweeps.trackers.base import RunUpdate, Tracker
from sweeps.trackers.known import TRACKERS
from sweeps.trackers.state import GIVE_UP_S, load_state, lock_file, save_state
from sweeps.trackers.updates import Updates

BATCH = 500
"""Maximum number of events passed to the tracker at once."""
POLL_S = 0.25
"""Seconds between two checks of the log."""
RETRY_S = (0.5, 5.0)
"""Shortest and longest wait after the tracker failed; each wait is twice the one before."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code if a SIGTERM ends the process after the sweep."""
COMPLAIN_S = 60.0
"""Seconds between two lines about a tracker that keeps failing."""

logger = logging.getLogger(__name__)


class Feed:
    """Feeds one sweep's log to one tracker; after a failure, a new `Feed` is made.

    Args:
        folder: The sweep's folder.
        name: The tracker's name.
        kind: The class of the tracker.

    Raises:
        SweepError: See `Tracker` for this and other errors; the methods raise the same.
    """

    def __init__(self, folder: SweepFolder, name: str, kind: type[Tracker]) -> None:
        self._folder, self._name = folder, name
        record = read_record(folder)
        self._state = load_state(folder, name)
        if self._state.trouble is not None:  # of an earlier process
            self._state.trouble = None
            save_state(self._state, folder, name)
        self._tracker = kind(folder, record, self._state)
        self._updates = Updates(record)
        self._history = self._updates.history
        self._read_to = 0

    @property
    def offset(self) -> int:
        """Bytes of the log that the tracker has written."""
        return self._state.offset

    @property
    def at_the_end(self) -> bool:
        """Whether the newest event is the end of the sweep."""
        return self._history.ended is not None

    def advance(self) -> bool:
        """Pass the next events to the tracker; return whether there were any."""
        before = self._read_to
        updates = self._read()
        if self._read_to == before:
            return False
        if updates:
            self._tracker.write(updates)
        if self._read_to > self._state.offset:
            self._state.offset, self._state.closed = self._read_to, False
            save_state(self._state, self._folder, self._name)
        return True

    def close(self) -> None:
        """Have the tracker write what belongs at the end of the log."""
        if self._history.started is None:
            return
        if not self.at_the_end:
            self._updates.interrupt()
            self._tracker.write(self._updates.take())
        self._tracker.close(find_answer(self._history, sweep_status(self._history, held=False)))
        self._state.closed = True
        save_state(self._state, self._folder, self._name)

    def _read(self) -> list[RunUpdate]:
        """Return the updates of the next events, except for events that the tracker already has."""
        for event, end in islice(read_events(self._folder.events_file, self._read_to), BATCH):
            self._updates.apply(event)
            self._read_to = end
            if end <= self._state.offset:
                self._updates.take()
        return self._updates.take()


def follow(folder: SweepFolder, name: str, kind: type[Tracker]) -> int:
    """Follow the log to its end; return the exit code, which is 1 if the tracker gave up."""
    feed: Feed | None = None
    furthest, wait, deadline, next_complaint = 0, RETRY_S[0], math.inf, 0.0
    while True:
        held = is_held(folder.events_file)  # checked first, so that the log's last lines count
        try:
            feed = feed or Feed(folder, name, kind)
            if not feed.advance():
                if feed.at_the_end or not held:
                    feed.close()
                    return 0
                time.sleep(POLL_S)
            if feed.offset > furthest:
                furthest = feed.offset
                wait, deadline, next_complaint = RETRY_S[0], math.inf, 0.0
        except UserError as error:
            return _give_up(folder, name, str(error))
        except ImportError as error:
            return _give_up(folder, name, f"a package is missing: {error}")
        except (SweepError, OSError) as error:
            feed = None  # the next one continues after the last successful write
            now = time.monotonic()
            if held:
                deadline = math.inf
            elif deadline == math.inf:
                deadline = now + GIVE_UP_S
            if now > deadline:
                tried = f"still failing after {GIVE_UP_S:.0f} s of retries"
                return _give_up(folder, name, f"{tried}: {error}")
            if now >= next_complaint:
                logger.warning("%s failed; retrying: %s", name, error)
                next_complaint = now + COMPLAIN_S
            time.sleep(wait)
            wait = min(2 * wait, RETRY_S[1])


def _give_up(folder: SweepFolder, name: str, why: str) -> int:
    """Record why the tracker does not have everything; return the exit code."""
    logger.error("gave up on %s: %s", name, why)
    state = load_state(folder, name)
    state.trouble = why
    save_state(state, folder, name)
    return 1


def run(name: str, kind: type[Tracker], folder: SweepFolder) -> int:
    """Set up this process for a tracker and follow the sweep; return the exit code."""
    redact_output()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.update(kind.environment)
    sys.modules.update(dict.fromkeys(kind.unused))  # type: ignore[arg-type]
    # Batch systems send SIGTERM to every process, but the end of the sweep must still be written.
    signal.signal(
        signal.SIGTERM, lambda *_: None if is_held(folder.events_file) else sys.exit(TERMINATED)
    )
    with lock_file(folder, name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the process from before a resume may still be running
        code = follow(folder, name, kind)
        gc.freeze()  # Python collects garbage before it exits: with MLflow, for a second
        return code


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], TRACKERS[sys.argv[1]], SweepFolder(Path(sys.argv[2]).absolute())))
