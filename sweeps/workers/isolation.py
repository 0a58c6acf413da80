"""Resets a worker process to its state before its first job.

Runs in the workers, before each job. It must not know what a job does. What survives a job was
measured with torch 2.13 and transformers 5.23; the caller drops the job's own objects.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_FLAGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "matmul precision": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (torch.get_default_device, torch.set_default_device),
    "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic": (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    "anomaly detection": (
        torch.is_anomaly_enabled,
        lambda value: torch.autograd.set_detect_anomaly(value, check_nan=True),
    ),
}
_CUDNN = ("deterministic", "benchmark", "enabled", "allow_tf32")


@dataclass(frozen=True)
class Baseline:
    """The process state that jobs may change."""

    environment: dict[str, str]
    cwd: str
    path: list[str]
    flags: dict[str, Any]
    cudnn: dict[str, bool]
    matmul_tf32: bool


def take_baseline() -> Baseline:
    """Return the current state of this process.

    Everything alive now stays alive, so later garbage collections skip it: with torch and
    transformers loaded, a full one takes 0.2 s.
    """
    gc.collect()
    gc.freeze()
    return Baseline(
        environment=dict(os.environ),
        cwd=os.getcwd(),
        path=list(sys.path),
        flags={name: read() for name, (read, _) in _FLAGS.items()},
        cudnn={name: getattr(torch.backends.cudnn, name) for name in _CUDNN},
        matmul_tf32=torch.backends.cuda.matmul.allow_tf32,
    )


def restore(baseline: Baseline) -> None:
    """Reset the process to the baseline and free what earlier jobs left."""
    for name in os.environ.keys() - baseline.environment.keys():
        del os.environ[name]
    os.environ.update(baseline.environment)
    os.chdir(baseline.cwd)
    sys.path[:] = baseline.path
    for name, (read, write) in _FLAGS.items():
        if read() != baseline.flags[name]:
            write(baseline.flags[name])
    for name, value in baseline.cudnn.items():
        setattr(torch.backends.cudnn, name, value)
    torch.backends.cuda.matmul.allow_tf32 = baseline.matmul_tf32
    # A builder may draw random numbers before HF seeds; every job must draw the same ones.
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
