"""The GPUs of this machine that CUDA lets a process use, and warnings about them.

Runs in the sweep process before anything starts, and asks only the driver (NVML): CUDA itself is
not initialised. It must not know about existing clusters, whose nodes count their GPUs themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pynvml
import torch

from sweeps.amounts import size
from sweeps.config import SweepConfig
from sweeps.errors import UserError

VARIABLE = "CUDA_VISIBLE_DEVICES"
HIDDEN = ("", "NoDevFiles")
"""Entries that hide all GPUs after them; Slurm writes the second one."""
USED = 1_000_000_000
"""A GPU counts as in use if at least this many bytes of its memory are in use."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU, or a slice of one (MIG)."""

    name: str
    """The name in CUDA_VISIBLE_DEVICES: a number, an id, or the prefix of an id."""
    gpu: int | None
    """Number of the GPU; None for a slice."""
    slices: tuple[str, ...] | None
    """Ids of the slices that a whole GPU is divided into; None if it is not divided."""
    used: int
    """Bytes of its memory that are in use."""
    total: int
    processes: tuple[int, ...]
    """Ids of the processes that compute on it."""


def local_devices() -> list[Device] | None:
    """Return the devices that CUDA lets a process use, in its order; None without NVML or CUDA.

    Ray and CUDA read CUDA_VISIBLE_DEVICES differently: with `0,9` on a machine with two GPUs, Ray
    (2.60) counts two, but CUDA finds one.

    Raises:
        UserError: CUDA_VISIBLE_DEVICES names a device that does not exist, or a GPU does not
            respond.
    """
    if torch.version.cuda is None:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        wholes = [_handle(number) for number in range(pynvml.nvmlDeviceGetCount())]
        if not wholes:
            return []
        named = os.environ.get(VARIABLE)
        if named is None:
            return [_device(str(number), number, wholes) for number in range(len(wholes))]
        return _named(named, wholes)
    finally:
        pynvml.nvmlShutdown()


def count_gpus(config: SweepConfig) -> int:
    """Return how many GPUs, or slices of GPUs, trials can have on this machine.

    Raises:
        UserError: See `local_devices`; not for a sweep on CPUs, which then has none.
    """
    try:
        devices = local_devices()
    except UserError:
        if config.gpus_per_worker == 0:
            return 0
        raise
    return torch.cuda.device_count() if devices is None else len(devices)


def check_gpus(config: SweepConfig) -> None:
    """Refuse a config that this machine's GPUs cannot serve.

    Raises:
        UserError: States the reason.
    """
    if config.gpus_per_worker == 0:
        return
    devices = local_devices() or []
    problems = [
        f"GPU {each.gpu} has MIG enabled but no slices, so CUDA cannot use it; create slices or"
        f" disable MIG{_leaving_out(each, devices)}"
        for each in devices
        if each.slices == ()
    ]
    if any(each.gpu is None for each in devices):
        for flag, value in (
            ("--workers-per-trial", config.workers_per_trial),
            ("--gpus-per-worker", config.gpus_per_worker or 1),
        ):
            if value > 1:
                problems.append(
                    f"{flag} {value:g}: {VARIABLE} names slices of GPUs (MIG); a process can use"
                    " one slice, and NCCL does not connect slices; give each trial one worker with"
                    " one slice, or name whole GPUs"
                )
    if problems:
        raise UserError(problems)


def gpu_warnings(config: SweepConfig) -> list[str]:
    """Return the warnings about this machine's GPUs; none for a sweep on CPUs."""
    if config.gpus_per_worker == 0:
        return []
    devices = local_devices() or []
    return [line for each in devices for line in _warnings(each, devices)]


def _warnings(device: Device, devices: Sequence[Device]) -> Iterator[str]:
    what = f"slice {device.name}" if device.gpu is None else f"GPU {device.gpu}"
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
            f"{what} is in use: {' and '.join(by) or 'an unknown process'} use{'s' * (len(by) < 2)}"
            f" {size(device.used)} of {size(device.total)}; trials there may be slower"
            f" or run out of memory{_leaving_out(device, devices)}"
        )


def _leaving_out(device: Device, devices: Sequence[Device]) -> str:
    others = ",".join(each.name for each in devices if each != device)
    return f"; {VARIABLE}={others} leaves it out" if others else ""


def _named(text: str, wholes: Sequence[Any]) -> list[Device]:
    """Return the devices in CUDA_VISIBLE_DEVICES, up to the first entry that hides the rest."""
    found: dict[Any, Device] = {}
    ids = [pynvml.nvmlDeviceGetUUID(whole) if whole is not None else "" for whole in wholes]
    for entry in text.split(","):
        if entry.strip() in HIDDEN or entry.strip().startswith("-"):
            break
        device = _slice(entry) if entry.startswith("MIG-") else _whole(entry, ids, wholes)
        if device is None:
            raise UserError(f"{VARIABLE}={text}: {entry!r} {_no_match(entry, ids, wholes)}")
        key = entry if device.gpu is None else device.gpu
        if key in found:
            raise UserError(
                f"{VARIABLE}={text}: {entry!r} names a device that is already in the list, which"
                " hides all GPUs from CUDA; remove the duplicate"
            )
        if found and _kind(entry) != _kind(next(iter(found.values())).name):
            raise UserError(
                f"{VARIABLE}={text}: CUDA does not use {entry!r}, because the first entry is of"
                " a different kind; use only numbers, only ids of GPUs, or only ids of slices"
            )
        found[key] = device
    return [*found.values()]


def _no_match(entry: str, ids: Sequence[str], wholes: Sequence[Any]) -> str:
    """Return what is wrong with an entry that names no device, and the devices of its kind."""
    if not entry.startswith("MIG-"):
        have = ", ".join(f"{number} ({each})" for number, each in enumerate(ids))
        return f"does not match exactly one GPU of this machine, which has {have}"
    slices = ", ".join(
        each for whole in wholes if whole is not None for each in _slices(whole) or ()
    )
    return f"is no slice (MIG) of this machine, which has {slices or 'none'}"


def _kind(entry: str) -> str:
    return "number" if entry.strip().isdecimal() else entry[:3]


def _whole(name: str, ids: Sequence[str], wholes: Sequence[Any]) -> Device | None:
    """Return a GPU by its number, or by a prefix of its id; None if there is not exactly one."""
    if _kind(name) == "number":
        matching = [int(name)] if int(name) < len(ids) else []
    else:
        matching = [i for i, each in enumerate(ids) if name[:4] == "GPU-" and each.startswith(name)]
    return _device(name.strip(), matching[0], wholes) if len(matching) == 1 else None


def _slice(name: str) -> Device | None:
    """Return a slice of a GPU by its id; None if there is no such slice."""
    with suppress(pynvml.NVMLError):
        return _measured(name, pynvml.nvmlDeviceGetHandleByUUID(name))
    return None


def _handle(number: int) -> Any:
    """Return NVML's handle of a GPU; None if the driver has lost it."""
    with suppress(pynvml.NVMLError):
        return pynvml.nvmlDeviceGetHandleByIndex(number)
    return None


def _device(name: str, gpu: int, wholes: Sequence[Any]) -> Device:
    if wholes[gpu] is None:
        raise UserError(
            f"GPU {gpu} does not respond to the driver (NVML); leave it out of {VARIABLE}, which"
            " may be empty to run on CPUs"
        )
    return _measured(name, wholes[gpu], gpu=gpu, slices=_slices(wholes[gpu]))


def _measured(
    name: str, handle: Any, gpu: int | None = None, slices: tuple[str, ...] | None = None
) -> Device:
    used = total = 0
    processes: tuple[int, ...] = ()
    with suppress(pynvml.NVMLError):  # not reported for a slice or in a container
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        used, total = memory.used, memory.total
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        processes = tuple(sorted({each.pid for each in running}))
    return Device(name=name, gpu=gpu, slices=slices, used=used, total=total, processes=processes)


def _slices(whole: Any) -> tuple[str, ...] | None:
    """Return the ids of the slices of a GPU; None if it is not divided."""
    with suppress(pynvml.NVMLError):
        if pynvml.nvmlDeviceGetMigMode(whole)[0] == pynvml.NVML_DEVICE_MIG_ENABLE:
            found = []
            for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
                with suppress(pynvml.NVMLError):
                    each = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, number)
                    found.append(pynvml.nvmlDeviceGetUUID(each))
            return tuple(found)
    return None
