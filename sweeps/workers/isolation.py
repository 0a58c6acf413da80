"""Resets a worker process to its state before its first job.

Runs in the workers, before each job. It must not know what a job does. What survives a job was
measured with torch 2.13 and transformers 5.23; the caller drops the job's own objects.
"""

from __future__ import annotations

import gc
import random

import numpy as np
import torch

from sweeps.workers import process_switches, torch_switches
from sweeps.workers.switches import Switches


def take_baseline() -> Switches:
    """Return the current state of this process, as far as jobs may change it.

    Everything alive now stays alive, so later garbage collections skip it: with torch and
    transformers loaded, a full one takes 0.2 s.
    """
    baseline = Switches([*process_switches.find(), *torch_switches.find()])
    gc.collect()
    gc.freeze()
    return baseline


def restore(baseline: Switches) -> list[str]:
    """Reset the process to the baseline and free what earlier jobs left.

    Returns:
        What cannot be reset, by name.
    """
    lasting = baseline.put_back()
    # A builder may draw random numbers before HF seeds; every job must draw the same ones.
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return lasting
