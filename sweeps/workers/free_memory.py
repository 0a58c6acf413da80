"""Host memory that a worker may still allocate, in this container or else on this machine.

Runs in a worker. It must not know what the memory is for.
"""

from __future__ import annotations

from pathlib import Path

import psutil

RESERVE = 0.1
"""Fraction of the memory that stays free: Ray ends workers at 95 % (2.60)."""
CGROUP = Path("/sys/fs/cgroup")


def free_memory(cgroup: Path = CGROUP) -> int:
    """Return how many bytes may be allocated; negative if the reserve is in use."""
    machine = psutil.virtual_memory()
    free = machine.available - RESERVE * machine.total
    if (limit := _number(cgroup / "memory.max")) is not None:
        used = (_number(cgroup / "memory.current") or 0) - _page_cache(cgroup)
        free = min(free, (1 - RESERVE) * limit - used)
    return int(free)


def _page_cache(cgroup: Path) -> int:
    """Return how many bytes the kernel can reclaim by itself."""
    try:
        lines = (cgroup / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _number(file: Path) -> int | None:
    """Return the number in a file; None if there is no file, or no limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
