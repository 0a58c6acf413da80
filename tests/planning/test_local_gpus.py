"""What `plan` and `run` make of CUDA_VISIBLE_DEVICES, slices and GPUs in use; NVML is fake."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from sweeps import SweepConfig
from sweeps.driver import cluster, sweep
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.planning import local_gpus
from sweeps.planning.layout import Node, this_machine
from sweeps.planning.local_gpus import check_gpus, count_gpus, gpu_warnings
from tests.conftest import SPACES, CommandLine
from tests.driver.test_leaving_ray import Interrupted
from tests.watching import Recorder

GB = 10**9


@dataclass
class Gpu:
    """A GPU of the stand-in, or a slice of one."""

    id: str
    used: int = 0
    pids: tuple[int, ...] = ()
    slices: list[Gpu] | None = None
    lost: bool = False


class Nvml:
    """The part of pynvml that is asked, with its answers."""

    NVMLError = pynvml.NVMLError
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE
    nvmlMemory_v2 = pynvml.nvmlMemory_v2

    def __init__(self, gpus: list[Gpu]) -> None:
        self.gpus = gpus

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Gpu:
        if self.gpus[number].lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.gpus[number]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:
        found = [each for gpu in self.gpus for each in gpu.slices or () if each.id == uuid]
        if not found:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found[0]

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> str:
        return gpu.id

    def nvmlDeviceGetMemoryInfo(self, gpu: Gpu, version: int) -> Any:
        return SimpleNamespace(used=gpu.used, total=80 * GB)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: Gpu) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in gpu.pids]

    def nvmlDeviceGetMigMode(self, gpu: Gpu) -> list[int]:
        if gpu.slices is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [pynvml.NVML_DEVICE_MIG_ENABLE] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, number: int) -> Gpu:
        slices = gpu.slices or []
        if number >= len(slices):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return slices[number]


Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    def has(*gpus: Gpu, visible: str | None = None) -> None:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(local_gpus, "pynvml", Nvml(list(gpus)))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return has


def four() -> list[Gpu]:
    return [Gpu(f"GPU-{letter}0{letter}") for letter in "abcd"]


def divided(count: int = 2) -> Gpu:
    return Gpu("GPU-m", slices=[Gpu(f"MIG-{number}") for number in range(count)])


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        (None, 4),
        ("", 0),
        ("-1", 0),
        ("NoDevFiles", 0),
        ("2", 1),
        ("3, 1", 2),
        ("0,-1,1", 1),  # CUDA stops there; Ray counts three
        ("0,", 1),
        ("01,2", 2),
        ("GPU-a0a,GPU-d", 2),
    ],
)
def test_as_many_gpus_count_as_cuda_uses(machine: Machine, visible: str | None, count: int):
    machine(*four(), visible=visible)
    assert count_gpus(SweepConfig()) == count
    assert this_machine(SweepConfig())[0].gpus == count


@pytest.mark.parametrize(
    ("visible", "problem"),
    [
        (
            "0,9",
            "'9' does not match exactly one GPU of this machine, which has 0 (GPU-a0a), 1"
            " (GPU-b0b), 2 (GPU-c0c), 3",
        ),
        ("GPU-x", "'GPU-x' does not match exactly one GPU of this machine"),
        ("GPU-", "'GPU-' does not match exactly one GPU of this machine"),
        ("all", "'all' does not match exactly one GPU of this machine"),
        ("MIG-0", "'MIG-0' is no slice (MIG) of this machine, which has none"),
        (
            "1,2,1",
            "'1' names a device that is already in the list, which hides all GPUs from CUDA",
        ),
        ("GPU-a0a,GPU-a", "'GPU-a' names a device that is already in the list"),
        ("0,GPU-b", "CUDA does not use 'GPU-b', because the first entry is of a different kind"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(
    machine: Machine, visible: str, problem: str
):
    machine(*four(), visible=visible)
    with pytest.raises(UserError) as raised:
        count_gpus(SweepConfig())
    assert str(raised.value).startswith(f"CUDA_VISIBLE_DEVICES={visible}: {problem}")


def test_ray_is_started_with_the_gpus_that_cuda_uses(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    machine(*four(), visible="1,3,-1")
    started: list[dict[str, Any]] = []

    def init(**settings: Any) -> None:
        started.append(settings)
        raise ConnectionError("that is all")

    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.sys, "platform", "darwin")  # no process server
    with (
        pytest.raises(UserError, match="that is all"),
        cluster.connected(None, tmp_path, SweepConfig()),
    ):
        pass
    assert started[0]["num_gpus"] == 2


def test_slices_count_each_as_a_gpu(machine: Machine):
    machine(divided(3), visible="MIG-0,MIG-2")
    assert (count_gpus(SweepConfig()), gpu_warnings(SweepConfig())) == (2, [])
    check_gpus(SweepConfig())
    machine(*four(), divided(3), visible="MIG-0,MIG-7")
    with pytest.raises(UserError) as told:
        count_gpus(SweepConfig())
    assert str(told.value) == (
        "CUDA_VISIBLE_DEVICES=MIG-0,MIG-7: 'MIG-7' is no slice (MIG) of this machine, which has"
        " MIG-0, MIG-1, MIG-2"
    )
    machine(divided(3), visible="MIG-0,MIG-0")
    with pytest.raises(UserError, match="'MIG-0' names a device that is already in the list"):
        count_gpus(SweepConfig())


@pytest.mark.parametrize("config", [{"workers_per_trial": 2}, {"gpus_per_worker": 2}])
def test_a_trial_that_would_need_two_slices_is_refused(machine: Machine, config: dict[str, Any]):
    machine(divided(), visible="MIG-0,MIG-1")
    with pytest.raises(UserError) as raised:
        check_gpus(SweepConfig(**config))
    flag = next(iter(config)).replace("_", "-")
    assert str(raised.value) == (
        f"--{flag} 2: CUDA_VISIBLE_DEVICES names slices of GPUs (MIG); a process can use one slice,"
        " and NCCL does not connect slices; give each trial one worker with one slice, or name"
        " whole GPUs"
    )


def test_of_a_divided_gpu_whose_slices_are_not_named_only_the_first_is_used(machine: Machine):
    machine(divided())
    assert count_gpus(SweepConfig()) == 1
    assert gpu_warnings(SweepConfig()) == [
        "GPU 0 is divided into 2 slices (MIG), and CUDA uses only the first;"
        " CUDA_VISIBLE_DEVICES=MIG-0,MIG-1 uses all"
    ]
    machine(divided(1))
    assert gpu_warnings(SweepConfig()) == []


def test_a_gpu_with_mig_and_no_slices_is_refused(machine: Machine):
    machine(Gpu("GPU-a"), divided(0))
    with pytest.raises(UserError) as raised:
        check_gpus(SweepConfig())
    assert str(raised.value) == (
        "GPU 1 has MIG enabled but no slices, so CUDA cannot use it; create slices or disable MIG;"
        " CUDA_VISIBLE_DEVICES=0 leaves it out"
    )
    check_gpus(SweepConfig(gpus_per_worker=0))


def test_a_gpu_that_the_driver_has_lost_is_refused_unless_it_is_left_out(machine: Machine):
    gpus = [Gpu("GPU-a"), Gpu("GPU-b", lost=True), Gpu("GPU-c")]
    machine(*gpus)
    with pytest.raises(UserError) as raised:
        count_gpus(SweepConfig())
    assert str(raised.value) == (
        "GPU 1 does not respond to the driver (NVML); leave it out of CUDA_VISIBLE_DEVICES, which"
        " may be empty to run on CPUs"
    )
    machine(*gpus, visible="0,2")
    assert count_gpus(SweepConfig()) == 2
    machine(gpus[1])
    with pytest.raises(UserError, match=r"GPU 0 does not respond"):
        count_gpus(SweepConfig())


@pytest.mark.parametrize("visible", [None, "none", "0,1,2,3"])
def test_a_sweep_on_cpus_does_not_depend_on_the_gpus(machine: Machine, visible: str | None):
    config = SweepConfig(gpus_per_worker=0)
    machine(Gpu("GPU-a"), Gpu("GPU-b", lost=True), visible=visible)
    check_gpus(config)
    assert (count_gpus(config), gpu_warnings(config)) == (0, [])


def test_a_gpu_that_others_use_is_said_with_what_leaves_it_out(machine: Machine):
    machine(Gpu("GPU-a", used=GB // 2), Gpu("GPU-b", 61 * GB, (71, 70)), Gpu("GPU-c", 2 * GB))
    assert gpu_warnings(SweepConfig()) == [
        "GPU 1 is in use: process 70 and process 71 use 61.0 GB of 80.0 GB; trials there may be"
        " slower or run out of memory; CUDA_VISIBLE_DEVICES=0,2 leaves it out",
        "GPU 2 is in use: an unknown process uses 2.0 GB of 80.0 GB; trials there may be slower or"
        " run out of memory; CUDA_VISIBLE_DEVICES=0,1 leaves it out",
    ]
    machine(Gpu("GPU-b", GB // 2, (70,)), visible="GPU-b")
    assert gpu_warnings(SweepConfig()) == [
        "GPU 0 is in use: process 70 uses 500.0 MB of 80.0 GB; trials there may be slower or run"
        " out of memory"
    ]
    machine(Gpu("GPU-a", 2 * GB, (70,)), Gpu("GPU-b"), visible="1")
    assert gpu_warnings(SweepConfig()) == []


def test_what_this_process_takes_is_said_where_it_is_much(machine: Machine):
    """A notebook that has trained a model before it starts a sweep."""
    machine(Gpu("GPU-a", 40 * GB, (os.getpid(),)), Gpu("GPU-b", GB // 2, (os.getpid(),)))
    assert gpu_warnings(SweepConfig()) == [
        "GPU 0 is in use: this process uses 40.0 GB of 80.0 GB; trials there may be slower or run"
        " out of memory; CUDA_VISIBLE_DEVICES=1 leaves it out"
    ]


def test_without_nvml_pytorch_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.version, "cuda", None)  # a PyTorch for AMD's GPUs, or for none
    assert (count_gpus(SweepConfig()), gpu_warnings(SweepConfig())) == (3, [])

    def absent() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert (count_gpus(SweepConfig()), gpu_warnings(SweepConfig())) == (3, [])


def test_plan_warns_and_refuses(machine: Machine, command_line: CommandLine):
    space = str(SPACES / "curves.py")
    machine(Gpu("GPU-a", 61 * GB, (70,)), Gpu("GPU-b"))
    said = command_line("plan", space)
    assert "warning: GPU 0 is in use: process 70 uses 61.0 GB of 80.0 GB" in said.out
    assert "GPU 0 is in use" not in command_line("plan", space, "--gpus-per-worker", "0").out
    machine(Gpu("GPU-a"), visible="1")
    said = command_line("plan", space)
    assert (said.code, "'1' does not match exactly one GPU of this machine" in said.err) == (
        2,
        True,
    )
    assert command_line("plan", space, "--gpus-per-worker", "0").code == 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A Ray cluster with one GPU, which does not run; has an entry for each time it was started."""
    found: list[bool] = []

    def connected(*_: Any) -> Any:
        found.append(True)
        return nullcontext({})

    for name, fake in (
        ("connected", connected),
        ("parts", list),
        ("nodes", lambda: [Node(cpus=2.0, gpus=1.0)]),
        ("gpu_kinds", lambda: ["H100"]),
        ("autoscales", lambda: False),
    ):
        monkeypatch.setattr(cluster, name, fake)
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(sweep, "Round", Interrupted)
    return found


def test_that_the_gpus_of_a_cluster_are_not_checked_is_said_by_plan_and_run(
    machine: Machine,
    started: list[bool],
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """The cluster is the one that RAY_ADDRESS names, for `plan` as for `run`."""
    machine(Gpu("GPU-a", 61 * GB, (70,)))
    with socket.create_server(("127.0.0.1", 0)) as gcs:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{gcs.getsockname()[1]}")
        space = str(SPACES / "curves.py")
        said = command_line("plan", space).out
        assert "warning: the GPUs of this cluster are not checked: " in said
        assert "GPU 0 is in use" not in said
        assert "GPUs of this cluster" not in command_line("plan", space, "--gpus-per-worker=0").out
        config = SweepConfig(storage=str(tmp_path), num_trials=2, smoke=False, trackers=())
        watching = Recorder()
        with pytest.raises(KeyboardInterrupt):
            sweep.run_request(make_request(space, config), [watching])
    found = "warning: the GPUs of this cluster are not checked"
    assert [note for note in watching.notes if note.startswith(found)]


def test_run_warns_and_refuses_before_ray_is_started(
    machine: Machine, started: list[bool], tmp_path: Path
):
    config = SweepConfig(storage=str(tmp_path), num_trials=2, smoke=False, trackers=())
    request = make_request(str(SPACES / "curves.py"), config)
    watching = Recorder()
    machine(Gpu("GPU-a"), visible="1")
    with pytest.raises(UserError, match="'1' does not match exactly one GPU of this machine"):
        sweep.run_request(request, [watching])
    assert (started, list(tmp_path.iterdir())) == ([], [])
    machine(Gpu("GPU-a", 61 * GB, (70,)))
    with pytest.raises(KeyboardInterrupt):
        sweep.run_request(request, [watching])
    found = "warning: GPU 0 is in use: process 70"
    assert [note for note in watching.notes if note.startswith(found)]
