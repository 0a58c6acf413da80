"""The host's memory, in this container or else on this machine: what is free, and who ran out.

Runs in a worker, and on the nodes of a lost group. It must not know what the memory is for.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

RESERVE = 0.1
"""Fraction of the memory that stays free: Ray ends workers at 95 % (2.60)."""
WAIT_S = 30.0
"""Seconds to wait for another worker, which may hang."""
PAUSE_S = 0.05
CGROUPS = Path("/sys/fs/cgroup")
PROCESSES = Path("/proc")
FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""For cgroup v2 and v1, by controller: the files with the limit and the usage, and the entry of
`memory.stat` that the kernel can reclaim by itself."""


@contextmanager
def alone_on_host() -> Iterator[None]:
    """Within the context, no other worker on this host is in such a context.

    So no two of them find the same memory free and both take it.

    Raises:
        TimeoutError: Another worker has been in its own for too long.
    """
    folder = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        _lock(folder)
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)  # closing is not enough if a fork has the folder open
        os.close(folder)


def _lock(folder: int) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError("another worker on this host is allocating memory") from None
        time.sleep(PAUSE_S)


def free_memory(cgroups: Path = CGROUPS, process: Path = PROCESSES) -> int:
    """Return how many bytes may be allocated; negative if the reserve is in use."""
    machine = psutil.virtual_memory()
    free = machine.available - RESERVE * machine.total
    for folder, (limit_file, used_file, cache) in _own_cgroups(cgroups, process):
        if (limit := _number(folder / limit_file)) is not None:
            cached = _entry(folder / "memory.stat", cache) or 0
            used = (_number(folder / used_file) or 0) - cached
            free = min(free, (1 - RESERVE) * limit - used)
    return int(free)


def memory_kills(cgroups: Path = CGROUPS, process: Path = PROCESSES) -> int:
    """Return how many processes the kernel has killed so far because memory ran out.

    It does not say which.
    """
    own = _text(process / "self" / "cgroup").partition("0::/")[2].partition("\n")[0]
    # In a container, `own` may be the name that the machine uses for the cgroup, while the
    # container finds its own cgroup at the root.
    files = cgroups / own / "memory.events", cgroups / "memory.events", process / "vmstat"
    counts = (_entry(file, "oom_kill") for file in files)
    return next((count for count in counts if count is not None), 0)


def _own_cgroups(cgroups: Path, process: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Yield the folders of the cgroups that this process is in, outermost first.

    Each may have a limit: in a container, the outermost one; in a Slurm job, an inner one.
    """
    for line in _text(process / "self" / "cgroup").splitlines():
        _, controllers, own = line.split(":", 2)
        for controller, files in FILES.items():
            if controller in controllers.split(","):
                names = Path(own).parts[1:]
                for depth in range(len(names) + 1):
                    yield cgroups.joinpath(controller, *names[:depth]), files


def _entry(file: Path, name: str) -> int | None:
    """Return the number that a file lists under a name; None if it does not."""
    lines = _text(file).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


def _number(file: Path) -> int | None:
    """Return the number in a file; None if there is no file, or no limit."""
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
