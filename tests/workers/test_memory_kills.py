"""What the kernel says of processes that it killed for want of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.workers.host_memory import memory_kills

EVENTS = "low 0\nhigh 0\nmax 3\noom 2\noom_kill {}\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # A machine: the cgroup of the process counts its own, vmstat those of all.
        (
            {
                "proc/self/cgroup": "0::/user.slice/ray.scope\n",
                "cgroup/user.slice/ray.scope/memory.events": EVENTS.format(2),
                "proc/vmstat": "nr_free_pages 8\noom_kill 9\n",
            },
            2,
        ),
        # A container: its cgroup is the root of what it sees, by a short name or the machine's.
        ({"proc/self/cgroup": "0::/\n", "cgroup/memory.events": EVENTS.format(1)}, 1),
        (
            {
                "proc/self/cgroup": "0::/kubepods/pod7\n",
                "cgroup/memory.events": EVENTS.format(1),
                "proc/vmstat": "oom_kill 9\n",
            },
            1,
        ),
        # No cgroups of version 2.
        ({"proc/self/cgroup": "4:memory:/job\n0::/\n", "proc/vmstat": "oom_kill 9\n"}, 9),
        ({"proc/self/cgroup": "4:memory:/job\n", "proc/vmstat": "oom_kill 9\n"}, 9),
        ({}, 0),
    ],
)
def test_kills_are_counted_in_the_own_cgroup_or_else_on_the_machine(
    files: dict[str, str], expected: int, tmp_path: Path
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_kills(tmp_path / "cgroup", tmp_path / "proc") == expected
