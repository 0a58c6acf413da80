"""How much of a cluster a layout uses, what stays idle, and which flag would use more of it.

Pure; used by `plan`. It must not start or query anything: it receives the nodes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.planning.layout import Layout, Node, lay_out


@dataclass(frozen=True)
class Occupancy:
    """How much of a cluster a sweep uses."""

    cpus: float
    gpus: float
    used_cpus: float
    used_gpus: float
    hint: str | None
    """What would use more of it; None if no worker could use what is idle."""


def occupancy(nodes: Sequence[Node], config: SweepConfig, layout: Layout) -> Occupancy:
    """Return what the layout uses of these nodes."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    used_cpus, used_gpus = _used(layout)
    hint = None
    idle, what = (gpus - used_gpus, "GPU") if gpus else (cpus - used_cpus, "CPU")
    total = gpus or cpus
    if idle >= 1:
        shown = f"{idle:g} of {total:g} {what}s idle"
        streams = layout.size.data_cpus > 0
        better = _best(nodes, config, used_gpus if gpus else used_cpus, bool(gpus), streams)
        hint = (
            shown if better is None else f"{shown}: {better[0]} would use {_share(better, total)}"
        )
    return Occupancy(cpus, gpus, used_cpus, used_gpus, hint)


def _share(better: tuple[str, float], total: float) -> str:
    return "all" if better[1] >= total else f"{better[1]:g}"


def _used(layout: Layout) -> tuple[float, float]:
    size = layout.size
    cpus = layout.most * (size.workers * size.cpus_per_worker + size.data_cpus)
    return cpus, layout.groups * size.workers * layout.gpus_per_worker


def _best(
    nodes: Sequence[Node], config: SweepConfig, used: float, gpus: bool, streams: bool
) -> tuple[str, float] | None:
    """Return the flag that would use most, and how much; of equal ones, the smallest change."""
    best: tuple[str, float] | None = None
    for flag, changed in _changes(nodes, config):
        try:
            found = _used(lay_out(nodes, changed, streams=streams))[1 if gpus else 0]
        except UserError:
            continue
        if found > (best[1] if best else used):
            best = flag, found
    return best


def _changes(nodes: Sequence[Node], config: SweepConfig) -> Iterator[tuple[str, SweepConfig]]:
    """Yield other configurations, each with its flag."""
    most = int(sum(max(node.cpus, node.gpus) for node in nodes))
    if config.gpus_per_worker == 0:
        yield "--gpus-per-worker 1", dataclasses.replace(config, gpus_per_worker=1.0)
    if config.max_concurrent is not None:
        for count in range(config.max_concurrent + 1, most + 1):
            changed = dataclasses.replace(config, max_concurrent=count)
            yield f"--max-concurrent {count}", changed
    for trials in range(config.num_trials + config.repeats, most + 1, config.repeats):
        yield f"--num-trials {trials}", dataclasses.replace(config, num_trials=trials)
    for cpus in range((config.cpus_per_worker or 1) - 1, 0, -1):
        changed = dataclasses.replace(config, cpus_per_worker=cpus)
        yield f"--cpus-per-worker {cpus}", changed
    if config.gpus_per_worker is None or config.gpus_per_worker == int(config.gpus_per_worker):
        near = sorted(range(1, most + 1), key=lambda n: (abs(n - config.workers_per_trial), n))
        for workers in near:
            changed = dataclasses.replace(config, workers_per_trial=workers)
            yield f"--workers-per-trial {workers}", changed
