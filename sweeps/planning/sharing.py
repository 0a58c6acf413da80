"""How many trials share a GPU: as many as fit, judging by the first trial, which runs alone.

Pure; used in the sweep process. It must not know how groups are added.
"""

from __future__ import annotations

import dataclasses
import math

from sweeps.amounts import size
from sweeps.planning.layout import FIRST_SHARE, Layout
from sweeps.records.events import GpuMeasured
from sweeps.records.history import History
from sweeps.workers.group_size import GroupSize

RESERVE = 0.1
"""Fraction of a GPU's memory that is left free, since other params may need more than the first
ones."""
PRECISION = 10_000
"""Number of parts of a GPU that Ray distinguishes (2.60)."""


def trials_per_gpu(layout: Layout, history: History) -> int:
    """Return how many trials share a GPU; 1 before anything was measured."""
    use = history.gpu_use
    if layout.sharing is None or use is None or use.busy is None:
        return 1
    by_time = layout.sharing.per_gpu if use.busy <= 0 else round(1 / use.busy)
    by_memory = int(use.total * (1 - RESERVE) / max(1, _memory(use, history)))
    return max(1, min(layout.sharing.per_gpu, by_time, by_memory))


def groups_now(layout: Layout, history: History) -> int:
    """Return how many groups to run, given the measurement and how often memory ran out."""
    per_gpu = trials_per_gpu(layout, history)
    if layout.sharing is None or per_gpu == 1:
        return layout.groups
    groups = min(layout.groups * per_gpu, layout.sharing.groups)
    return max(layout.groups, groups - history.crowded)


def further_size(layout: Layout, per_gpu: int) -> GroupSize:
    """Return the size of further groups that share a GPU with the first one."""
    parts = math.floor(PRECISION * (1 - FIRST_SHARE) / (per_gpu - 1))
    return dataclasses.replace(layout.size, gpus_per_worker=parts / PRECISION)


def _memory(use: GpuMeasured, history: History) -> int:
    """Return how many bytes a trial uses at most; the smoke run includes an evaluation."""
    smoke = history.measured
    return max(use.memory, (smoke.gpu_memory or 0) if smoke is not None else 0)


def in_words(layout: Layout, history: History) -> str | None:
    """Return the line that says how many trials share a GPU, and why.

    None if sharing is not allowed.
    """
    use = history.gpu_use
    if layout.sharing is None or use is None:
        return None
    if use.busy is None:
        return (
            "trials do not share GPUs, because NVML does not report how busy a GPU is; with"
            " --gpus-per-worker 0.5, two trials share one"
        )
    per_gpu = trials_per_gpu(layout, history)
    how_many = (
        f"{per_gpu} trials share each GPU" if per_gpu > 1 else "each trial has a GPU to itself"
    )
    return (
        f"{how_many}: {use.trial} keeps its GPU busy {use.busy:.0%} of the time and uses"
        f" {size(_memory(use, history))} of {size(use.total)}; at most"
        f" {layout.sharing.per_gpu} may share one (--trials-per-gpu)"
    )
