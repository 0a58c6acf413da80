"""Resets a worker process to the state before its first job.

Runs in the workers, around each job. It must not know what a job does. What survives a job was
measured with torch 2.13 and transformers 5.23; the caller frees the job's own objects.
"""

from __future__ import annotations

import gc
import random
import sys
from pathlib import Path

import numpy as np
import torch
import torch._dynamo.config
from torch._dynamo import convert_frame

from sweeps.workers import deepspeed_trials
from sweeps.workers.isolation import (
    dataset_files,
    own_modules,
    process_switches,
    torch_switches,
)
from sweeps.workers.isolation.called_once import forget_calls
from sweeps.workers.isolation.first_imports import FirstImports
from sweeps.workers.isolation.libraries import Libraries
from sweeps.workers.isolation.own_threads import OwnThreads
from sweeps.workers.isolation.patches import Patched, Patches
from sweeps.workers.isolation.switches import Switches


class Isolated:
    """This process, in which all jobs start from the same state."""

    def __init__(self) -> None:
        self._modules = frozenset(sys.modules)
        self._baseline: Switches | None = None
        self._patches: Patches | None = None
        self._imports: FirstImports | None = None
        self._threads: OwnThreads | None = None
        self.is_fresh = True
        """Whether no job has ended here."""
        self.own_files: dict[str, str] = {}
        """Digests of the user's files outside the sweep's copy that the latest job imported."""

    def begin_job(self) -> None:
        """Begin a job, before the user's code is imported: each job imports it again."""
        if self._baseline is None:
            # Both add to `sys.meta_path`, which is a switch.
            self._patches = Patches(Libraries())
            self._imports = FirstImports()
            self._baseline = take_baseline()
        self._threads = OwnThreads()
        _seed()

    def fits(self, code: Path) -> bool:
        """Tell, once a job's trainer is built, whether it may train in this process.

        Args:
            code: The sweep's copy of the user's code.
        """
        assert self._patches is not None, "no job has started"
        self.own_files = own_modules.outside(self._modules, code)
        return self._patches.fit()

    def end_job(self) -> Patched:
        """Reset the process, and return what the job has changed for later jobs."""
        assert self._patches is not None, "no job has started"
        assert self._baseline is not None, "no job has started"
        assert self._imports is not None, "no job has started"
        assert self._threads is not None, "no job has started"
        self.is_fresh = False
        threads = self._threads.left()  # the switches are restored once these have ended
        self._patches.forget(own_modules.forget(self._modules))
        lasting = [*restore(self._baseline), *self._imports.take_settings(), *threads]
        return self._patches.undo(lasting)


def take_baseline() -> Switches:
    """Return the current state of this process, as far as it can be restored.

    Everything that is alive now stays alive, so later garbage collections skip it: with torch and
    transformers loaded, a full collection takes 0.2 s.
    """
    found = [*process_switches.find(), *torch_switches.find(), dataset_files.caching()]
    baseline = Switches(found)
    gc.collect()
    gc.freeze()
    return baseline


def restore(baseline: Switches) -> list[str]:
    """Reset the process to the baseline, and free what earlier jobs left behind.

    Returns:
        The names of everything that could not be reset.
    """
    lasting = baseline.put_back()
    forget_calls()
    _forget_compiled()
    deepspeed_trials.forget()
    _seed()
    gc.collect()
    dataset_files.forget()  # once the collection has freed those that used them
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return lasting


def _forget_compiled() -> None:
    """Forget what jobs have compiled, before PyTorch would stop compiling for later ones.

    A job reuses what earlier ones have compiled. But trials may differ in a constant of the code,
    such as a dropout rate, and PyTorch compiles no more than `recompile_limit` (8) variants of a
    function in a process. After that, it runs the function uncompiled. `FRAME_COMPILE_COUNTER` is
    not documented (torch 2.11 to 2.13).
    """
    variants = max(convert_frame.FRAME_COMPILE_COUNTER.values(), default=0)
    if variants > torch._dynamo.config.recompile_limit // 2:
        torch.compiler.reset()


def _seed() -> None:
    """Seed what a builder may draw from before HF seeds; every job must draw the same numbers."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
