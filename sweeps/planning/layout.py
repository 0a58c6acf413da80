"""How the worker groups fit on a cluster.

Computed in the sweep process, from Ray's nodes or from this machine. It must not start anything.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.amounts import counted
from sweeps.config import SweepConfig, is_uri
from sweeps.errors import UserError
from sweeps.planning.local_gpus import count_gpus
from sweeps.workers.group_size import DATA_CPUS, GroupSize

FIRST_SHARE = 0.52
"""Fraction of a GPU that Ray assigns to the first group on it if more groups may follow: two of
them do not fit on one GPU. This is only accounting; it does not limit what a process uses of a
GPU."""


@dataclass(frozen=True)
class Node:
    """The resources of one node."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Sharing:
    """Room for further groups on the GPUs of those that start first, one on each GPU."""

    per_gpu: int
    """Maximum number of groups on a GPU, at least 2."""
    groups: int
    """Maximum number of groups in total."""


@dataclass(frozen=True)
class Layout:
    """Worker groups on a cluster."""

    groups: int
    """Number of groups, which is the number of concurrent trials."""
    size: GroupSize
    """Size of each group."""
    sharing: Sharing | None = None
    """Further groups that may share the GPUs with these; None: no sharing."""

    @property
    def gpus_per_worker(self) -> float:
        """GPUs of a worker that does not share them with other groups."""
        return self.size.gpus_per_worker if self.sharing is None else 1.0

    @property
    def most(self) -> int:
        """Maximum number of groups."""
        return self.groups if self.sharing is None else self.sharing.groups


def at_once_in_words(layout: Layout) -> str:
    """Return the number of concurrent trials in words."""
    if layout.sharing is None:
        return str(layout.groups)
    return f"{layout.groups} (up to {layout.most} if they can share a GPU)"


def this_machine(config: SweepConfig) -> list[Node]:
    """Return this machine as a cluster with one node.

    Raises:
        UserError: See `count_gpus`.
    """
    return [Node(cpus=len(os.sched_getaffinity(0)), gpus=count_gpus(config))]


def may_share(config: SweepConfig, streams: bool) -> bool:
    """Tell whether trials may share a GPU, if there are GPUs."""
    alone = config.workers_per_trial > 1 or config.gpus_per_worker is not None
    return config.trials_per_gpu > 1 and not alone and not streams


def group_size(nodes: Sequence[Node], config: SweepConfig, *, streams: bool) -> GroupSize:
    """Return the size of a group, with defaults filled in from the nodes.

    Args:
        nodes: The current nodes.
        config: The sweep's config.
        streams: Whether Ray Data streams rows to the group: without a dedicated CPU it would wait
            forever (ray 2.60).
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
        if may_share(config, streams) and shares:
            cpus = max(1, min(cpus, min(shares) // config.trials_per_gpu))
    if may_share(config, streams) and with_gpus:
        gpus = FIRST_SHARE
    return GroupSize(
        workers=config.workers_per_trial,
        cpus_per_worker=cpus,
        gpus_per_worker=gpus,
        data_cpus=data_cpus,
    )


def lay_out(
    nodes: Sequence[Node],
    config: SweepConfig,
    *,
    streams: bool,
    autoscaling: bool = False,
) -> Layout:
    """Return the layout on these nodes.

    Args:
        nodes: The current nodes.
        config: The sweep's config.
        streams: Whether Ray Data streams rows to the groups.
        autoscaling: Whether the cluster autoscales.

    Raises:
        UserError: Not a single group fits on a fixed cluster (with the exact shortfall), or
            `max_concurrent` is missing on an autoscaling cluster.
    """
    alone = dataclasses.replace(config, trials_per_gpu=1)
    if autoscaling:
        if config.max_concurrent is None:
            raise UserError(
                "the cluster autoscales, so its size does not limit the number of concurrent"
                " trials; pass --max-concurrent"
            )
        size = group_size(nodes, alone, streams=streams)
        return Layout(groups=min(config.max_concurrent, config.num_trials), size=size)
    size = group_size(nodes, config, streams=streams)
    fitting = sum(_fit(node, size) for node in nodes)
    of_one = size.workers * size.cpus_per_worker + size.data_cpus
    held = min(fitting // size.workers, sum(int(node.cpus) for node in nodes) // of_one)
    at_once = min(config.max_concurrent or config.num_trials, config.num_trials)
    groups = min(held, at_once)
    if may_share(config, streams) and any(node.gpus >= 1 for node in nodes):
        beside = sum(
            min(int(node.gpus) * config.trials_per_gpu, int(node.cpus // size.cpus_per_worker))
            for node in nodes
        )
        most = min(beside, at_once)
        if most <= groups:
            return lay_out(nodes, alone, streams=streams)
        per_gpu = min(config.trials_per_gpu, math.ceil(most / groups))
        return Layout(groups=groups, size=size, sharing=Sharing(per_gpu, most))
    if held == 0:
        raise _no_room(nodes, size, fitting)
    return Layout(groups=groups, size=size)


def _no_room(nodes: Sequence[Node], size: GroupSize, fitting: int) -> UserError:
    """Return the error for a cluster without room for one group.

    Args:
        nodes: The nodes.
        size: The size of a group.
        fitting: How many of its workers fit, without the CPUs for Ray Data.
    """
    have_cpus, have_gpus = sum(n.cpus for n in nodes), sum(n.gpus for n in nodes)
    one = f"{size.cpus_per_worker} CPU" + (
        f" and {size.gpus_per_worker:g} GPU" if size.gpus_per_worker else ""
    )
    data = f", and {size.data_cpus} CPU for Ray Data (stream=True)" if size.data_cpus else ""
    room = f"{fitting}, but leaves no CPU for Ray Data"
    if fitting < size.workers:
        room = f"only {fitting}" if fitting else "none"
    above = {
        "--workers-per-trial": size.workers - 1,
        "--cpus-per-worker": size.cpus_per_worker - 1,
        "--gpus-per-worker": size.gpus_per_worker,
    }
    lower = " or ".join(flag for flag, excess in above.items() if excess > 0)
    fix = f"; lower {lower}" if lower else ""
    return UserError(
        f"a trial needs {size.workers} worker{'s, each' * (size.workers > 1)} with {one}{data};"
        f" the cluster ({counted(len(nodes), 'node')}, {have_cpus:g} CPUs,"
        f" {have_gpus:g} GPUs) has room for {room}{fix}"
    )


def _fit(node: Node, size: GroupSize) -> int:
    """Return how many workers of this size fit on the node."""
    by_cpu = int(node.cpus // size.cpus_per_worker)
    if not size.gpus_per_worker:
        return by_cpu
    if size.gpus_per_worker < 1:
        by_gpu = int(node.gpus) * int(1 / size.gpus_per_worker + 1e-9)  # 1 // 0.2 is 4
    else:
        by_gpu = int(node.gpus // size.gpus_per_worker)
    return min(by_cpu, by_gpu)


def check_reach(config: SweepConfig, nodes: int, *, autoscaling: bool) -> None:
    """Refuse to stream rows to nodes that cannot see their file.

    Args:
        config: The sweep's config, for its storage.
        nodes: Number of nodes.
        autoscaling: Whether the cluster autoscales.

    Raises:
        UserError: With object storage, prepared data exists only on the node of the sweep process.
    """
    if is_uri(config.storage) and (autoscaling or nodes > 1):
        raise UserError(
            f"--storage {config.storage}: stream=True reads a file that all nodes must be able to"
            " see, but with object storage the file exists only on this node; use a folder that"
            " all nodes share, or stream=False"
        )
