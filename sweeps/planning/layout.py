"""How the worker groups fit on a cluster.

Computed in the sweep process, from Ray's nodes or from this machine. It must not start anything.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.config import SweepConfig, is_uri
from sweeps.errors import UserError
from sweeps.workers.size import DATA_CPUS, Size


@dataclass(frozen=True)
class Node:
    """The resources of one node."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Layout:
    """Worker groups on a cluster."""

    groups: int
    """Number of groups, which is the number of trials at once."""
    size: Size
    """Size of each group."""


def this_machine() -> list[Node]:
    """Return this machine as a cluster of one node."""
    import torch

    return [Node(cpus=len(os.sched_getaffinity(0)), gpus=torch.cuda.device_count())]


def group_size(nodes: Sequence[Node], config: SweepConfig, *, streams: bool = False) -> Size:
    """Return the size of a group, with defaults filled in from the nodes.

    Args:
        nodes: The current nodes.
        config: The sweep's config.
        streams: Whether Ray Data streams rows to the group: without a CPU of its own it would
            wait forever (ray 2.60).
    """
    data_cpus = DATA_CPUS if streams else 0
    with_gpus = [node for node in nodes if node.gpus >= 1]
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if with_gpus else 0.0
    cpus = config.cpus_per_worker
    if cpus is None:
        shares = [int(node.cpus / node.gpus * gpus) for node in with_gpus] if gpus else []
        cpus = max(1, min([8, *(share - data_cpus for share in shares)])) if shares else 1
    return Size(
        workers=config.workers_per_trial,
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        data_cpus=data_cpus,
    )


def lay_out(
    nodes: Sequence[Node],
    config: SweepConfig,
    *,
    streams: bool = False,
    autoscaling: bool = False,
) -> Layout:
    """Return the layout on these nodes.

    Args:
        nodes: The current nodes.
        config: The sweep's config.
        streams: Whether Ray Data streams rows to the groups.
        autoscaling: Whether the cluster autoscales.

    Raises:
        UserError: Not one group fits a fixed cluster (with the exact shortfall), or an
            autoscaling one has no `max_concurrent`.
    """
    size = group_size(nodes, config, streams=streams)
    if autoscaling:
        if config.max_concurrent is None:
            raise UserError("the cluster autoscales: pass --max-concurrent")
        return Layout(groups=min(config.max_concurrent, config.num_trials), size=size)
    fitting = sum(_fit(node, size) for node in nodes)
    of_one = size.workers * size.cpus_per_worker + size.data_cpus
    held = min(fitting // size.workers, sum(int(node.cpus) for node in nodes) // of_one)
    if held == 0:
        have_cpus, have_gpus = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
        one = f"{size.cpus_per_worker} CPU" + (
            f" and {size.gpus_per_worker:g} GPU" if size.gpus_per_worker else ""
        )
        data = f", and {size.data_cpus} CPU for Ray Data (stream=True)" if streams else ""
        room = f"{fitting}, but leaves no CPU for Ray Data"
        if fitting < size.workers:
            room = f"only {fitting}" if fitting else "none"
        raise UserError(
            f"a trial needs {size.workers} worker{'s, each' * (size.workers > 1)} with {one}{data};"
            f" the cluster ({len(nodes)} node{'s' * (len(nodes) > 1)}, {have_cpus:g} CPUs,"
            f" {have_gpus:g} GPUs) has room for {room}"
        )
    return Layout(groups=min(held, config.max_concurrent or held, config.num_trials), size=size)


def _fit(node: Node, size: Size) -> int:
    """Return how many workers of this size fit on the node."""
    by_cpu = int(node.cpus // size.cpus_per_worker)
    if not size.gpus_per_worker:
        return by_cpu
    if size.gpus_per_worker < 1:
        by_gpu = int(node.gpus) * int(1 / size.gpus_per_worker + 1e-9)  # 1 // 0.2 is 4
    else:
        by_gpu = int(node.gpus // size.gpus_per_worker)
    return min(by_cpu, by_gpu)


def check_reach(config: SweepConfig, nodes: int, *, grows: bool) -> None:
    """Refuse to stream rows to nodes that cannot see their file.

    Args:
        config: The sweep's config, for its storage.
        nodes: Number of nodes.
        grows: Whether the cluster adds nodes by itself.

    Raises:
        UserError: With object storage, prepared data is only on the sweep process's node.
    """
    if is_uri(config.storage) and (grows or nodes > 1):
        raise UserError(
            f"--storage {config.storage}: stream=True reads a file that all nodes must see, and"
            " with object storage it is only on this node; give a folder that all nodes share,"
            " or stream=False"
        )
