"""Host memory that a worker may still allocate, in this container or else on this machine.

Runs in a worker. It must not know what the memory is for.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

RESERVE = 0.1
"""Fraction of the memory that stays free: Ray ends workers at 95 % (2.60)."""
CGROUP = Path("/sys/fs/cgroup")
VERSIONS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        *("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
        "total_inactive_file",
    ),
)
"""For cgroup v2 and v1: the files with the limit, the usage and its breakdown, and the entry of the
breakdown that the kernel can reclaim by itself."""


@contextmanager
def alone_on_host() -> Iterator[None]:
    """Within the context, no other worker on this host is in such a context.

    So no two of them look for free memory at the same time, and both take it.
    """
    folder = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def free_memory(cgroup: Path = CGROUP) -> int:
    """Return how many bytes may be allocated; negative if the reserve is in use."""
    machine = psutil.virtual_memory()
    free = machine.available - RESERVE * machine.total
    for limit_file, used_file, breakdown, cache in VERSIONS:
        if (limit := _number(cgroup / limit_file)) is not None:
            used = (_number(cgroup / used_file) or 0) - _entry(cgroup / breakdown, cache)
            free = min(free, (1 - RESERVE) * limit - used)
    return int(free)


def _entry(file: Path, name: str) -> int:
    """Return the bytes that a file lists under a name; 0 if it does not."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)


def _number(file: Path) -> int | None:
    """Return the number in a file; None if there is no file, or no limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
