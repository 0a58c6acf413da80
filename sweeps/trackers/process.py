"""Starts each tracker in a separate process, restarts it if it is killed, and waits at the end.

Runs in the sweep process, which waits for trackers only at its end, and in `ui` and `resume` of a
sweep that has ended. It must not know what a tracker does.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence

from sweeps.records.folder import SweepFolder
from sweeps.trackers.state import GIVE_UP_S, load_state, log_file, rejected_file

FOLLOW = "sweeps.trackers.follow"
RESTARTS = 20
"""How many times a tracker is restarted after it was killed."""
REASON = 240
"""Maximum number of characters of a reason that are shown; the log has the full text."""
END_S = 60.0
"""Seconds to wait for the trackers at the end of a sweep."""


class TrackerProcess:
    """One tracker's process. If it is killed, it is restarted and picks up where it left off.

    It ends by itself: at the end of the log, when no process holds the log any more, or when its
    tool cannot be used.

    Args:
        folder: The sweep's folder; `sweep.json` is written.
        name: The tracker's name.
        say: Called from a thread, as soon as a process gives up, with a line about it.
    """

    def __init__(self, folder: SweepFolder, name: str, say: Callable[[str], None]) -> None:
        self._folder, self._name, self._say = folder, name, say
        self._gave_up = False
        self.process = self._start()
        self._thread = threading.Thread(target=self._keep, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._folder.logs.mkdir(exist_ok=True)
        with log_file(self._folder, self._name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", FOLLOW, self._name, str(self._folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the sweep's terminal must not reach it
            )

    def _keep(self) -> None:
        restarts = 0
        while (code := self.process.wait()) < 0 and restarts < RESTARTS:
            restarts += 1
            self.process = self._start()
        if code != 0:
            self._gave_up = True
            self._say(str(shortfall(self._folder, self._name, code)))

    def finish(self, timeout_s: float) -> str | None:
        """Wait until the tracker has everything; if it takes too long, leave it running.

        Returns:
            One line that says what is missing and where to look; None if nothing is missing, or if
            it was already reported that the process gave up.
        """
        self._thread.join(max(0.01, timeout_s))
        if self._gave_up:
            return None
        return shortfall(self._folder, self._name, None if self._thread.is_alive() else 0)


def shortfall(folder: SweepFolder, name: str, code: int | None) -> str | None:
    """Return what a tracker lacks, in one line, or None.

    Args:
        folder: The sweep's folder.
        name: The tracker's name.
        code: The exit code of its process; None: it is still running.
    """
    log = log_file(folder, name)
    finish = shlex.join(["python", "-m", FOLLOW, name, str(folder.path)])
    if code is None:
        return (
            f"{name} has not received the end of the sweep yet. Its process keeps trying for up to"
            f" {GIVE_UP_S / 60:.0f} minutes (see {log}). If anything is still missing after that,"
            f" run: {finish}"
        )
    if code != 0:
        why = load_state(folder, name).trouble or f"its process exited with code {code}"
        why = textwrap.shorten(why, REASON, placeholder=" …")
        return (
            f"{name} is missing part of the sweep: {why}"
            f" (see {log}). The sweep itself is not affected. Once that is fixed, run: {finish}"
        )
    rejected = rejected_file(folder, name)
    if not rejected.exists():
        return None
    return f"{name} rejected some of the sweep's data; {rejected} lists what is missing there"


class TrackerProcesses:
    """The processes of all trackers of a sweep.

    Args:
        folder: See `TrackerProcess`.
        names: The trackers' names.
        say: See `TrackerProcess`.
    """

    def __init__(
        self, folder: SweepFolder, names: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._processes = [TrackerProcess(folder, name, say) for name in names]

    def finish(self, patience_s: float = END_S) -> list[str]:
        """Wait for all, at most this long; return a line for each that lacks something."""
        deadline = time.monotonic() + patience_s
        lines = [one.finish(deadline - time.monotonic()) for one in self._processes]
        return [line for line in lines if line is not None]


def bring_up_to_date(folder: SweepFolder, names: Sequence[str], say: Callable[[str], None]) -> None:
    """Let trackers write what they lack of a sweep that is not running; report what is left.

    Args:
        folder: The sweep's folder.
        names: The trackers' names.
        say: Called with each line.
    """
    if names:
        say(f"bringing {' and '.join(names)} up to date")
    for line in TrackerProcesses(folder, names, say).finish():
        say(line)
