"""The GPUs of this machine that CUDA lets a process use, and what is doubtful about them.

Runs in the sweep process before anything starts, and asks the driver (NVML) alone: CUDA itself is
not initialised. It must not know clusters that are joined: their nodes count their GPUs themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pynvml
import torch

from sweeps.config import SweepConfig
from sweeps.errors import UserError

VARIABLE = "CUDA_VISIBLE_DEVICES"
HIDDEN = ("", "NoDevFiles")
"""Entries that hide all GPUs after them; slurm writes the second."""
USED = 1_000_000_000
"""Bytes in use on a GPU below which nobody counts as using it."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, or a slice of one (MIG)."""

    name: str
    """As CUDA_VISIBLE_DEVICES takes it: a number, an id, or the beginning of an id."""
    gpu: int
    """Number of the whole GPU."""
    is_slice: bool
    slices: tuple[str, ...] | None
    """Ids of the slices that a whole GPU is divided into; None: it is not divided."""
    used: int
    """Bytes of its memory that are in use."""
    total: int
    processes: tuple[int, ...]
    """Ids of the processes that compute on it."""


def local_devices() -> list[Device] | None:
    """Return what CUDA lets a process use, in its order; None where there is no NVML or no CUDA.

    Ray and CUDA read CUDA_VISIBLE_DEVICES differently: of `0,9` on a machine with two GPUs, Ray
    (2.60) counts two, and CUDA finds one.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES names what is not there.
    """
    if torch.version.cuda is None:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        wholes = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        if not wholes:
            return []
        named = os.environ.get(VARIABLE)
        if named is None:
            return [_device(str(number), number, whole) for number, whole in enumerate(wholes)]
        return _named(named, wholes)
    finally:
        pynvml.nvmlShutdown()


def count_gpus() -> int:
    """Return how many GPUs, or slices of GPUs, trials can have on this machine.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES names what is not there.
    """
    devices = local_devices()
    return torch.cuda.device_count() if devices is None else len(devices)


def check_gpus(config: SweepConfig) -> None:
    """Refuse what no trial could use of this machine's GPUs.

    Raises:
        UserError: With the reason.
    """
    devices = local_devices() or []
    if config.gpus_per_worker == 0:
        return
    problems = [
        f"GPU {each.gpu} has MIG switched on and no slices, so CUDA cannot use it: make slices or"
        f" switch MIG off{_leaving_out(each, devices)}"
        for each in devices
        if each.slices == ()
    ]
    if any(each.is_slice for each in devices):
        for flag, value in (
            ("--workers-per-trial", config.workers_per_trial),
            ("--gpus-per-worker", config.gpus_per_worker or 1),
        ):
            if value > 1:
                problems.append(
                    f"{flag} {value:g}: {VARIABLE} names slices of GPUs (MIG); a process can use"
                    " one slice, and NCCL does not connect slices: give a trial one worker with"
                    " one slice, or name whole GPUs"
                )
    if problems:
        raise UserError(problems)


def gpu_warnings() -> list[str]:
    """Return what is doubtful about this machine's GPUs."""
    devices = local_devices() or []
    return [line for each in devices for line in _warnings(each, devices)]


def _warnings(device: Device, devices: Sequence[Device]) -> Iterator[str]:
    what = f"GPU {device.gpu}" if not device.is_slice else f"slice {device.name}"
    if device.slices and len(device.slices) > 1:
        yield (
            f"{what} is divided into {len(device.slices)} slices (MIG), and CUDA uses only the"
            f" first; {VARIABLE}={','.join(device.slices)} uses all"
        )
    if device.used >= USED or any(pid != os.getpid() for pid in device.processes):
        by = [
            "this process" if pid == os.getpid() else f"process {pid}" for pid in device.processes
        ]
        yield (
            f"{what} is in use: {' and '.join(by) or 'somebody'} take{'s' * (len(by) < 2)}"
            f" {device.used / 1e9:.1f} of {device.total / 1e9:.1f} GB; trials there may be slower"
            f" or run out of memory{_leaving_out(device, devices)}"
        )


def _leaving_out(device: Device, devices: Sequence[Device]) -> str:
    others = ",".join(each.name for each in devices if each != device)
    return f"; {VARIABLE}={others} leaves it out" if others else ""


def _named(text: str, wholes: Sequence[Any]) -> list[Device]:
    """Return what CUDA_VISIBLE_DEVICES names, up to the first entry that hides the rest."""
    found: dict[Any, Device] = {}
    ids = [pynvml.nvmlDeviceGetUUID(whole) for whole in wholes]
    for entry in text.split(","):
        if entry.strip() in HIDDEN or entry.strip().startswith("-"):
            break
        device = _slice(entry, ids) if entry.startswith("MIG-") else _whole(entry, ids, wholes)
        if device is None:
            have = ", ".join(f"{number} ({each})" for number, each in enumerate(ids))
            raise UserError(
                f"{VARIABLE}={text}: {entry!r} is no GPU of this machine; it has {have}"
            )
        key = entry if device.is_slice else device.gpu
        if key in found:
            raise UserError(f"{VARIABLE}={text}: {entry!r} is named twice; CUDA then uses no GPU")
        if found and _kind(entry) != _kind(next(iter(found.values())).name):
            raise UserError(
                f"{VARIABLE}={text}: CUDA does not use {entry!r}, since the first entry is"
                " of another kind; give only numbers, only ids of GPUs, or only ids of slices"
            )
        found[key] = device
    return [*found.values()]


def _kind(entry: str) -> str:
    return "number" if entry.strip().isdecimal() else entry[:3]


def _whole(name: str, ids: Sequence[str], wholes: Sequence[Any]) -> Device | None:
    """Return a GPU by its number, or by the beginning of its id."""
    matching = [
        number
        for number, each in enumerate(ids)
        if name.strip() == str(number) or (name.startswith("GPU-") and each.startswith(name))
    ]
    if len(matching) != 1:
        return None
    return _device(name.strip(), matching[0], wholes[matching[0]])


def _slice(name: str, ids: Sequence[str]) -> Device | None:
    """Return a slice of a GPU by its id."""
    with suppress(pynvml.NVMLError):
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        whole = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        return _device(name, ids.index(pynvml.nvmlDeviceGetUUID(whole)), handle, is_slice=True)
    return None


def _device(name: str, gpu: int, handle: Any, *, is_slice: bool = False) -> Device:
    used = total = 0
    processes: tuple[int, ...] = ()
    with suppress(pynvml.NVMLError):  # a slice, or a container, may not be told
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        used, total = memory.used, memory.total
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        processes = tuple(sorted({each.pid for each in running}))
    return Device(
        name=name,
        gpu=gpu,
        is_slice=is_slice,
        slices=None if is_slice else _slices(handle),
        used=used,
        total=total,
        processes=processes,
    )


def _slices(whole: Any) -> tuple[str, ...] | None:
    """Return the ids of the slices of a GPU; None where it is not divided."""
    with suppress(pynvml.NVMLError):
        if pynvml.nvmlDeviceGetMigMode(whole)[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
            found = []
            for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
                with suppress(pynvml.NVMLError):
                    each = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, number)
                    found.append(pynvml.nvmlDeviceGetUUID(each))
            return tuple(found)
    return None
