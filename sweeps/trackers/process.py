"""Starts each tracker as a process of its own, restarts one that is killed, waits at the end.

Runs in the sweep process, which never waits for a tracker before its end. It must not know what a
tracker does.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from sweeps.records.event_log import is_held
from sweeps.records.folder import SweepFolder
from sweeps.trackers.state import log_file, rejected_file

FOLLOW = "sweeps.trackers.follow"
RESTARTS = 20
"""How often a tracker that was killed is started again."""


class TrackerProcess:
    """One tracker's process, kept alive: one that is killed is started again where it was.

    It ends by itself: at the end of the log, or when no process holds the log any more.

    Args:
        folder: The sweep's; `sweep.json` is written and the log is held.
        name: The tracker's.
    """

    def __init__(self, folder: SweepFolder, name: str) -> None:
        assert is_held(folder.events_file), "open the EventLog first: without it the sweep is over"
        self._folder, self._name = folder, name
        self.process = self._start()
        self._thread = threading.Thread(target=self._keep, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._folder.logs.mkdir(exist_ok=True)
        with log_file(self._folder, self._name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", FOLLOW, self._name, str(self._folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the sweep's terminal is not for it
            )

    def _keep(self) -> None:
        for _ in range(RESTARTS):
            if self.process.wait() >= 0:  # done, or it gave up
                return
            self.process = self._start()

    def finish(self, timeout_s: float) -> str | None:
        """Wait until the tracker has everything; a late one is left running.

        Returns:
            One line that says what is missing and where to look, or None.
        """
        deadline = time.monotonic() + timeout_s
        self._thread.join(timeout_s)
        try:
            code = self.process.wait(max(0.01, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        return shortfall(self._folder, self._name, code)


def shortfall(folder: SweepFolder, name: str, code: int | None) -> str | None:
    """Return what a tracker lacks, in one line, or None.

    Args:
        folder: The sweep's.
        name: The tracker's.
        code: The exit code of its process; None: it still runs.
    """
    log = log_file(folder, name)
    if code is None:
        return f"{name} does not have the end of the sweep yet; its process continues, see {log}"
    if code != 0:
        return (
            f"{name} lacks the end of the sweep: its process exited with code {code}, see {log};"
            f" to add what is missing: python -m {FOLLOW} {name} {folder.path}"
        )
    rejected = rejected_file(folder, name)
    if rejected.exists():
        return f"{name} refused some values; they are in {rejected}"
    return None


class TrackerProcesses:
    """The processes of all trackers of a sweep.

    Args:
        folder: See `TrackerProcess`.
        names: The trackers'.
    """

    def __init__(self, folder: SweepFolder, names: Sequence[str]) -> None:
        self._processes = [TrackerProcess(folder, name) for name in names]

    def finish(self, timeout_s: float) -> list[str]:
        """Wait for all of them; return a line for each that lacks something."""
        deadline = time.monotonic() + timeout_s
        lines = [one.finish(deadline - time.monotonic()) for one in self._processes]
        return [line for line in lines if line is not None]
