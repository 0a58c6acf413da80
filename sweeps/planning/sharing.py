"""How many trials share a GPU: as many as the first trial, measured alone, leaves room for.

Pure; used in the sweep process. It must not know how groups are added.
"""

from __future__ import annotations

import dataclasses
import math

from sweeps.planning.layout import FIRST_SHARE, Layout
from sweeps.records.events import GpuMeasured
from sweeps.records.history import History
from sweeps.workers.size import Size

RESERVE = 0.1
"""Share of a GPU's memory that is left free: other params may need more than the first ones."""
PRECISION = 10_000
"""Parts of a GPU that Ray tells apart (2.60)."""


def trials_per_gpu(layout: Layout, history: History) -> int:
    """Return how many trials share a GPU; 1 before anything is measured."""
    use = history.gpu_use
    if layout.sharing is None or use is None or use.busy is None:
        return 1
    by_time = layout.sharing.per_gpu if use.busy <= 0 else round(1 / use.busy)
    by_memory = int(use.total * (1 - RESERVE) / max(1, _memory(use, history)))
    return max(1, min(layout.sharing.per_gpu, by_time, by_memory))


def groups_now(layout: Layout, history: History) -> int:
    """Return how many groups there are by what was measured, and by how often memory ran out."""
    per_gpu = trials_per_gpu(layout, history)
    if layout.sharing is None or per_gpu == 1:
        return layout.groups
    groups = min(layout.groups * per_gpu, layout.sharing.groups)
    return max(layout.groups, groups - history.crowded)


def further_size(layout: Layout, per_gpu: int) -> Size:
    """Return the size of the groups that come to share a GPU with the first one."""
    parts = math.floor(PRECISION * (1 - FIRST_SHARE) / (per_gpu - 1))
    return dataclasses.replace(layout.size, gpus_per_worker=parts / PRECISION)


def _memory(use: GpuMeasured, history: History) -> int:
    """Return the bytes that a trial takes at most; the smoke run has evaluated, too."""
    smoke = history.measured
    return max(use.memory, (smoke.gpu_memory or 0) if smoke is not None else 0)


def in_words(layout: Layout, history: History) -> str | None:
    """Return the line that says how many trials share a GPU, and why; None where none may."""
    use = history.gpu_use
    if layout.sharing is None or use is None:
        return None
    if use.busy is None:
        return (
            "no trials share a GPU: NVML does not tell how busy it is; --gpus-per-worker 0.5 has"
            " two share one"
        )
    per_gpu = trials_per_gpu(layout, history)
    how_many = f"{per_gpu} trials share each GPU" if per_gpu > 1 else "each trial has its GPU alone"
    return (
        f"{how_many}: {use.trial} keeps its GPU busy {use.busy:.0%} of the time and takes"
        f" {_memory(use, history) / 1e9:.1f} of {use.total / 1e9:.1f} GB; at most"
        f" {layout.sharing.per_gpu} may share one (--trials-per-gpu)"
    )
