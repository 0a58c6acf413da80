"""How many processes the kernel of this node has killed because host memory ran out.

Read in the workers before each job, and on the nodes of a lost group. It must not know which
process was killed: the kernel does not say.
"""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def memory_kills(cgroups: Path = CGROUPS, process: Path = Path("/proc")) -> int:
    """Return how many processes were killed so far, in this container or else on this machine."""
    own = _read(process / "self" / "cgroup").partition("0::/")[2].partition("\n")[0]
    # In a container, `own` may be the name that the machine uses for the cgroup, while the
    # container finds its own cgroup at the root.
    for file in (cgroups / own / "memory.events", cgroups / "memory.events", process / "vmstat"):
        for line in _read(file).splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
