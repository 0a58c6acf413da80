"""How worker groups fit a cluster: CPUs, GPUs, shares of them, several nodes, and what is short."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.errors import UserError
from sweeps.planning.layout import Layout, Node, group_size, lay_out, this_machine
from sweeps.workers.group_size import GroupSize


def layout(
    *nodes: tuple[float, float], autoscaling: bool = False, streams: bool = False, **config: Any
) -> Layout:
    found = [Node(cpus=cpus, gpus=gpus) for cpus, gpus in nodes]
    wanted = SweepConfig(**{"num_trials": 1000, "trials_per_gpu": 1, **config})
    return lay_out(found, wanted, autoscaling=autoscaling, streams=streams)


def message(*nodes: tuple[float, float], **config: Any) -> str:
    with pytest.raises(UserError) as raised:
        layout(*nodes, **config)
    return str(raised.value)


def size(workers: int, cpus: int, gpus: float) -> GroupSize:
    return GroupSize(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)


@pytest.mark.parametrize(
    ("nodes", "config", "expected"),
    [
        # No GPU: one CPU a worker.
        ([(2, 0)], {}, Layout(2, size(1, 1, 0))),
        ([(2, 0)], {"workers_per_trial": 2}, Layout(1, size(2, 1, 0))),
        ([(9, 0)], {"workers_per_trial": 2, "cpus_per_worker": 2}, Layout(2, size(2, 2, 0))),
        # GPUs: one a worker, and its share of the CPUs, 1 to 8.
        ([(32, 4)], {}, Layout(4, size(1, 8, 1))),
        ([(8, 4)], {"workers_per_trial": 2}, Layout(2, size(2, 2, 1))),
        ([(96, 4)], {}, Layout(4, size(1, 8, 1))),
        ([(2, 4)], {}, Layout(2, size(1, 1, 1))),
        ([(8, 4)], {"gpus_per_worker": 2}, Layout(2, size(1, 4, 2))),
        ([(8, 4)], {"gpus_per_worker": 0}, Layout(8, size(1, 1, 0))),
        ([(8, 4)], {"cpus_per_worker": 4}, Layout(2, size(1, 4, 1))),
        # Shares of a GPU.
        ([(16, 2)], {"gpus_per_worker": 0.5}, Layout(4, size(1, 4, 0.5))),
        ([(16, 1)], {"gpus_per_worker": 0.25}, Layout(4, size(1, 4, 0.25))),
        ([(16, 1)], {"gpus_per_worker": 0.3}, Layout(3, size(1, 4, 0.3))),
        ([(16, 2)], {"gpus_per_worker": 0.6}, Layout(2, size(1, 4, 0.6))),
        # Several nodes: workers of one group may stand on any, one worker on one.
        ([(4, 0), (4, 0)], {"workers_per_trial": 3}, Layout(2, size(3, 1, 0))),
        ([(3, 0), (3, 0)], {"cpus_per_worker": 2}, Layout(2, size(1, 2, 0))),
        ([(8, 0), (32, 4)], {}, Layout(4, size(1, 8, 1))),
        ([(64, 8), (16, 8)], {}, Layout(16, size(1, 2, 1))),
        ([(8, 1), (8, 1), (8, 1)], {"workers_per_trial": 2}, Layout(1, size(2, 8, 1))),
        # No more groups than asked for, and than there are trials.
        ([(8, 0)], {"max_concurrent": 3}, Layout(3, size(1, 1, 0))),
        ([(8, 0)], {"max_concurrent": 30}, Layout(8, size(1, 1, 0))),
        ([(8, 0)], {"num_trials": 5}, Layout(5, size(1, 1, 0))),
    ],
)
def test_groups_fill_the_cluster(
    nodes: list[tuple[float, float]], config: dict[str, Any], expected: Layout
):
    assert layout(*nodes, **config) == expected


@pytest.mark.parametrize(("share", "groups"), [(0.2, 5), (0.1, 10), (0.05, 20)])
def test_a_gpu_holds_as_many_workers_as_its_shares_add_up_to(share: float, groups: int):
    assert layout((64, 1), gpus_per_worker=share, cpus_per_worker=1).groups == groups


def test_what_is_short_is_said_exactly():
    assert message((2, 0), workers_per_trial=3) == (
        "a trial needs 3 workers, each with 1 CPU; the cluster (1 node, 2 CPUs, 0 GPUs) has room"
        " for only 2; lower --workers-per-trial"
    )
    assert message((16, 2), (16, 2), workers_per_trial=8, cpus_per_worker=4) == (
        "a trial needs 8 workers, each with 4 CPU and 1 GPU;"
        " the cluster (2 nodes, 32 CPUs, 4 GPUs) has room for only 4; lower --workers-per-trial or"
        " --cpus-per-worker or --gpus-per-worker"
    )
    assert message((8, 0), gpus_per_worker=1) == (
        "a trial needs 1 worker with 1 CPU and 1 GPU;"
        " the cluster (1 node, 8 CPUs, 0 GPUs) has room for none; lower --gpus-per-worker"
    )


@pytest.mark.parametrize(
    ("nodes", "config", "groups", "cpus"),
    [
        ([(2, 0)], {}, 1, 1),
        ([(5, 0)], {}, 2, 1),
        ([(3, 0), (3, 0)], {"workers_per_trial": 2}, 2, 1),
        ([(32, 4)], {}, 4, 7),
        ([(32, 4)], {"workers_per_trial": 2}, 2, 7),
        ([(32, 4)], {"cpus_per_worker": 8}, 3, 8),
        ([(8, 4)], {}, 4, 1),
        ([(4, 4)], {}, 2, 1),
        ([(4, 4), (2, 0)], {}, 3, 1),
    ],
)
def test_each_group_that_rows_are_streamed_to_leaves_a_cpu_to_ray_data(
    nodes: list[tuple[float, float]], config: dict[str, Any], groups: int, cpus: int
):
    found = layout(*nodes, streams=True, **config)
    assert (found.groups, found.size.cpus_per_worker, found.size.data_cpus) == (groups, cpus, 1)


def test_workers_that_leave_ray_data_no_cpu_are_refused():
    assert message((2, 0), workers_per_trial=2, streams=True) == (
        "a trial needs 2 workers, each with 1 CPU, and 1 CPU for Ray Data (stream=True);"
        " the cluster (1 node, 2 CPUs, 0 GPUs) has room for 2, but leaves no CPU for Ray Data;"
        " lower --workers-per-trial"
    )


def test_the_gpus_of_one_worker_stand_on_one_node():
    assert message((8, 1), (8, 1), gpus_per_worker=2, cpus_per_worker=1) == (
        "a trial needs 1 worker with 1 CPU and 2 GPU;"
        " the cluster (2 nodes, 16 CPUs, 2 GPUs) has room for none; lower --gpus-per-worker"
    )


def test_a_cluster_that_grows_needs_to_be_told_how_far():
    assert message((2, 0), autoscaling=True) == (
        "the cluster autoscales, so its size does not limit the number of concurrent trials; pass"
        " --max-concurrent"
    )
    assert layout((2, 0), autoscaling=True, max_concurrent=16, workers_per_trial=4) == (
        Layout(16, size(4, 1, 0))
    )


def test_a_cluster_that_grows_is_not_asked_for_more_groups_than_there_are_trials():
    assert layout((2, 0), autoscaling=True, max_concurrent=16, num_trials=3).groups == 3


@pytest.mark.parametrize(
    ("group", "devices"),
    [(size(2, 1, 0), 2), (size(2, 8, 1), 2), (size(2, 8, 2), 4), (size(1, 4, 0.25), 1)],
)
def test_the_devices_of_a_group_are_its_gpus_or_else_its_workers(group: GroupSize, devices: int):
    assert group.devices == devices


def test_this_machine_is_a_cluster_of_one_node_that_holds_a_group():
    (node,) = this_machine(SweepConfig())
    assert node.cpus >= 1
    assert group_size([node], SweepConfig(), streams=False).workers == 1
