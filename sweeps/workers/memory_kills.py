"""How many processes the kernel has killed for want of host memory, as each node counts them.

Read in the workers, and by the sweep process on the nodes of a group that is lost. It must not know
which process was killed: the kernel does not say.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_S = 30.0
"""A node that does not say its count in so many seconds is left out."""
CGROUPS = Path("/sys/fs/cgroup")


def memory_kills(cgroups: Path = CGROUPS, process: Path = Path("/proc")) -> int:
    """Return how many processes were killed so far: in this container, or else on this machine."""
    own = _read(process / "self" / "cgroup").partition("0::/")[2].partition("\n")[0]
    # Where a container sees the machine's names for cgroups, its own is the root of what it sees.
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


def memory_kills_on(nodes: Iterable[str]) -> dict[str, int]:
    """Return the counts of the nodes with these ids that answer."""
    count = ray.remote(memory_kills)
    asked = {
        node: count.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote()
        for node in nodes
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    counts = {}
    for node, answer in asked.items():
        try:
            counts[node] = ray.get(answer, timeout=0)
        except ray.exceptions.RayError:  # it has gone, or is too slow
            ray.cancel(answer, force=True)
    return counts
