"""Starts the MLflow writer as a process of its own, and waits for it at the end.

Runs in the sweep process, which must never wait for MLflow before that. It must not know what the
writer does.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from sweeps.records.event_log import is_held
from sweeps.records.folder import SweepFolder

WRITER = "sweeps.trackers.mlflow.writer"
LOG_FILE = "mlflow.log"
REJECTED_FILE = "rejected.jsonl"
RESTARTS = 20
"""A writer that was killed is started again so often."""


def start_writer(folder: SweepFolder) -> subprocess.Popen[bytes]:
    """Start the writer of a sweep whose `sweep.json` is written and whose log is held.

    It ends by itself: at the end of the log, or when no process holds the log any more.
    """
    folder.logs.mkdir(exist_ok=True)
    with (folder.logs / LOG_FILE).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", WRITER, str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the sweep's terminal is not for it
        )


class Writer:
    """Keeps a sweep's writer alive: one that is killed is started again where the store was.

    Args:
        folder: The sweep's; its log is held.
    """

    def __init__(self, folder: SweepFolder) -> None:
        assert is_held(folder.events_file), "open the EventLog first: without it the sweep is over"
        self._folder = folder
        self._process = start_writer(folder)
        self._thread = threading.Thread(target=self._keep, name="MLflow writer", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        for _ in range(RESTARTS):
            if self._process.wait() >= 0:  # done, or out of patience with the store
                return
            self._process = start_writer(self._folder)

    def finish(self, timeout_s: float) -> str | None:
        """Wait until everything is in MLflow; see `finish_writer`."""
        deadline = time.monotonic() + timeout_s
        self._thread.join(timeout_s)
        return finish_writer(self._process, max(0.1, deadline - time.monotonic()))


def finish_writer(process: subprocess.Popen[bytes], timeout_s: float) -> str | None:
    """Wait until everything is in MLflow; a late writer is left running.

    Returns:
        One line that says what is missing and where to look, or None.
    """
    assert isinstance(process.args, list)
    folder = SweepFolder(Path(str(process.args[-1])))
    log = folder.logs / LOG_FILE
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return f"MLflow does not have the end of the sweep yet; its writer goes on, see {log}"
    if code != 0:
        return (
            f"MLflow lacks the end of the sweep: its writer ended with code {code}, see {log}; "
            f"what is missing gets there with: python -m {WRITER} {folder.path}"
        )
    rejected = folder.logs / REJECTED_FILE
    if rejected.exists():
        return f"MLflow refused some values; they stand in {rejected}"
    return None
