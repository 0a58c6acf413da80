"""A sweep's lease on object storage: it keeps others out, as the lock on the log does in a folder.

Held by the sweep process, inspected by readers. It must not know what the sweep does.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from sweeps.records.conditional_writes import (
    ConditionalWrites,
    NotAsSeen,
    has_conditional_writes,
)
from sweeps.records.event_log import SweepIsRunning
from sweeps.records.folder import SweepFolder
from sweeps.records.remote import NotThere, Remote, of

LEASE = "lease.json"
LEASE_S = 90.0
"""Seconds without a renewal after which a lease is free."""
RENEW_S = 30.0
"""Seconds between two renewals."""
FIRST_RENEWAL_S = 3.0
"""Seconds until the first renewal: before Ray has started, so before any trial."""


class Lease:
    """The lease of a sweep, held by this process.

    If several processes take a free lease at the same instant, exactly one gets it on S3. On other
    stores, pyarrow cannot write conditionally: all get it, and all but the last notice at their
    first renewal.

    Args:
        folder: The sweep's folder.

    Raises:
        SweepIsRunning: Another process holds the lease.
        UserError: The storage cannot be opened.
        SweepError: The lease cannot be read or written.
    """

    def __init__(self, folder: SweepFolder) -> None:
        assert folder.storage is not None
        self._folder = folder
        self._remote = of(folder)
        self._writes: ConditionalWrites | None = None
        if has_conditional_writes(folder.storage):
            self._writes = ConditionalWrites(folder.storage, folder.id)
        # Looked up before checking that the lease is free: taking it later changes the version.
        self._version = self._writes.version(LEASE) if self._writes is not None else None
        if (age := lease_age(self._remote, self._remote.clock())) is not None:
            raise SweepIsRunning(
                f"{folder.id} is running: its lease in {folder.storage} was renewed {age:.0f} s"
                " ago. If the process that renewed it has died, wait: the lease expires"
                f" {LEASE_S:.0f} s after its last renewal"
            )
        self._id = uuid.uuid4().hex
        self._renewals = 0
        self._put()
        self._next_s = FIRST_RENEWAL_S

    def renew(self) -> None:
        """Renew the lease if a renewal is due.

        Raises:
            SweepIsRunning: Another process holds the lease now.
        """
        if self.due_s() > 0:
            return
        if not self._is_ours():
            raise self._taken()
        self._renewals += 1
        self._put()

    def due_s(self) -> float:
        """Return the seconds until the next renewal is due."""
        return self._renewed + self._next_s - time.monotonic()

    def release(self) -> None:
        """Give up the lease."""
        self._remote.delete(LEASE)

    def _put(self) -> None:
        """Write the lease.

        Raises:
            SweepIsRunning: Another process wrote it first.
        """
        # The count makes each renewal a new version.
        holder = {"id": self._id, "renewals": self._renewals, **_this_process()}
        content = json.dumps(holder).encode()
        if self._writes is None:
            self._remote.write(LEASE, content)
        else:
            try:
                self._version = self._writes.write(LEASE, content, seen=self._version)
            except NotAsSeen:
                self._version = self._writes.version(LEASE)
                if self._version is None or self._remote.read(LEASE) != content:
                    raise self._taken() from None
                # An earlier attempt at this same write arrived, although its answer was lost.
        self._renewed, self._next_s = time.monotonic(), RENEW_S

    def _is_ours(self) -> bool:
        try:
            return bool(json.loads(self._remote.read(LEASE))["id"] == self._id)
        except NotThere:  # somebody deleted it
            self._version = None
            return True

    def _taken(self) -> SweepIsRunning:
        return SweepIsRunning(
            f"{self._folder.id} was resumed by another process, which now holds its lease, so this"
            " process stops"
        )


def is_running(folder: SweepFolder) -> bool:
    """Tell whether a process holds the sweep's lease; False without object storage."""
    return folder.storage is not None and lease_age(of(folder), time.time()) is not None


def lease_age(remote: Remote, now: float) -> float | None:
    """Return the seconds since a lease was renewed, or None if nobody holds it.

    Args:
        remote: The sweep's objects.
        now: Unix time by the store's clock.
    """
    [renewed] = remote.changed(LEASE)
    if renewed is None or now - renewed > LEASE_S:
        return None
    try:
        holder = json.loads(remote.read(LEASE))
    except NotThere:
        return None
    return None if _is_gone(holder) else max(0.0, now - renewed)


def _this_process() -> dict[str, Any]:
    return {
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _ticks(os.getpid()),
    }


def _is_gone(holder: dict[str, Any]) -> bool:
    """Tell whether the holder was a process on this machine that has ended."""
    if holder["machine"] is None or holder["machine"] != _machine():
        return False
    return bool(_ticks(holder["pid"]) != holder["started"])


def _ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it has ended.

    A time of day would change if the clock were set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _machine() -> str | None:
    """Return an id of the process namespace, equal for processes that see the same process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
