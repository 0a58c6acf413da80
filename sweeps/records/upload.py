"""Renews a sweep's lease on object storage and uploads its log, in a separate thread.

Runs in the sweep process; no decision waits for it. From the events it must read only which
checkpoints are gone.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from sweeps.errors import SweepError, UserError
from sweeps.records.event_log import SweepIsRunning
from sweeps.records.events import CheckpointDropped, CheckpointSaved, Event, OfConfirmation
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.lease import Lease
from sweeps.records.object_storage import RECORD, segment_name, segments
from sweeps.records.remote import GIVE_UP_S, RETRY_S, of
from sweeps.space.code_copy import is_copy

SEGMENT_BYTES = 2**18
"""A segment of the log is rewritten, longer each time, up to this size."""


class Upload:
    """Holds a sweep on object storage until it is closed.

    Args:
        folder: The sweep's folder.

    Raises:
        UserError: The storage cannot be written.
        SweepIsRunning: Another process runs the sweep, or has continued it since it was read.
    """

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._remote = of(folder)
        try:
            self._lease = Lease(folder)
        except SweepIsRunning:
            raise
        except SweepError as error:
            raise UserError(f"cannot write to --storage {folder.storage}: {error}") from None
        try:
            self._start, self._sent = self._find_end()
        except SweepError:
            self._lease.release()
            raise
        self._dropped: set[str] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._fault: SweepError | None = None
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self._thread.start()

    def put_definition(self) -> None:
        """Upload `sweep.json` and `code/`."""
        files = {
            file.relative_to(self._folder.code).as_posix(): file
            for file in self._folder.code.rglob("*")
            if is_copy(file)
        }
        for name, file in files.items():
            self._remote.upload(file, f"code/{name}")
        for name in self._remote.files("code").keys() - files:
            self._remote.delete(f"code/{name}")
        self._remote.upload(self._folder.record_file, RECORD)

    def observe(self, event: Event) -> None:
        """Have the log uploaded soon, because it has grown.

        Raises:
            SweepError: The sweep must not continue: the storage fails, or another process runs it.
        """
        if isinstance(event, OfConfirmation):
            event = event.inner
        with self._lock:
            if isinstance(event, CheckpointDropped):
                self._dropped.add(event.path)
            elif isinstance(event, CheckpointSaved):
                self._dropped.discard(event.path)
        self._wake.set()
        if self._fault is not None:
            raise self._fault

    def delete_unknown(self, history: History) -> None:
        """Delete checkpoints that no event mentions: those of attempts that were interrupted.

        No trial may be running.
        """
        trials = [*history.trials.values(), *history.confirming.values()]
        known = {saved.path for trial in trials for saved in trial.checkpoints.values()}
        found = {"/".join(name.split("/")[:2]) for name in self._remote.files("checkpoints")}
        for name in sorted(found):
            if f"checkpoints/{name}" not in known:
                self._remote.delete(f"checkpoints/{name}")

    def close(self) -> None:
        """Upload the end of the log and release the lease.

        Raises:
            SweepError: The end could not be uploaded.
        """
        self._closing.set()
        self._wake.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault
        with suppress(SweepError):
            self._lease.release()

    def _run(self) -> None:
        failing: float | None = None
        while True:
            closing = self._closing.is_set()
            self._wake.clear()  # cleared before the log is read, so later events wake it again
            try:
                self._bring_up()
                failing = None
                if closing:
                    return
                self._wake.wait(self._lease.due_s())
            except SweepIsRunning as fault:
                self._fault = fault
                return
            except SweepError as error:
                now = time.monotonic()
                failing = failing or now
                if now - failing > GIVE_UP_S:
                    self._fault = SweepError(
                        f"gave up uploading the event log after {GIVE_UP_S:.0f} s of failures; only"
                        f" {self._folder.path} has the last events, so resume on this machine; last"
                        f" error: {error}"
                    )
                    return
                time.sleep(RETRY_S)
            except Exception as error:
                logging.getLogger("sweeps").exception("the upload failed")
                self._fault = SweepError(
                    f"the sweep stops, because its upload to {self._folder.storage} failed:"
                    f" {type(error).__name__}: {error}"
                )
                return

    def _bring_up(self) -> None:
        """Renew the lease if due, upload new events, delete dropped checkpoints."""
        self._lease.renew()
        with self._lock:
            dropped = set(self._dropped)
        self._send()
        for path in dropped:  # the log that says so is uploaded by now
            self._remote.delete(path)
        with self._lock:
            self._dropped -= dropped

    def _send(self) -> None:
        if not self._folder.events_file.exists():
            return
        with self._folder.events_file.open("rb") as log:
            log.seek(self._start)
            content = log.read()
        content = content[: content.rfind(b"\n") + 1]
        if len(content) <= self._sent:
            return
        self._remote.write(segment_name(self._start), content)
        self._sent = len(content)
        if self._sent >= SEGMENT_BYTES:
            self._start, self._sent = self._start + self._sent, 0

    def _find_end(self) -> tuple[int, int]:
        """Return the start of the newest segment and its length, in bytes of the log.

        Raises:
            SweepIsRunning: Another process has continued the sweep since the storage was read.
        """
        found = segments(self._remote)
        log = self._folder.events_file
        here = log.read_bytes() if log.exists() else b""
        if not here.startswith(b"".join(content for _, content in found)):
            raise SweepIsRunning(
                f"another process has continued {self._folder.id} in the meantime; run resume again"
            )
        offset, content = found[-1] if found else (0, b"")
        full = len(content) >= SEGMENT_BYTES
        return (offset + len(content), 0) if full else (offset, len(content))
