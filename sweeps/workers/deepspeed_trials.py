"""What DeepSpeed needs of a worker: which configs and states it can use, and what it leaves behind.

Runs in a worker, around the training of a job. It must not import DeepSpeed, which may not be
installed. The names of its files, and of what it keeps of a trial, are not documented (0.19.8).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState

from sweeps.space.sharding import zero_problem


def config_problem(config: Any) -> str | None:
    """Return why a trial cannot use a config, as HF has completed it; None if it can."""
    if config.mismatches:
        found = "; ".join(line.removeprefix("- ") for line in config.mismatches)
        return (
            f"the deepspeed config contradicts other arguments: {found}; set such entries to"
            " 'auto', and set or tune the arguments instead"
        )
    return zero_problem(config.config)


def resume_problem(state: Path, workers: int) -> str | None:
    """Return why this many workers cannot resume a state; None if they can."""
    saved = len(list(state.glob("global_step*/*zero_pp_rank_*_optim_states.pt")))
    if saved in (0, workers):
        return None
    return (
        f"DeepSpeed cannot resume {state.name} with {workers} workers: {saved} have saved it, and"
        " each loads its own part"
    )


def own_files(state: Path, rank: int) -> list[Path]:
    """Return the files of a state that DeepSpeed has written on this rank alone."""
    return sorted(state.glob(f"global_step*/*zero_pp_rank_{rank}_*"))


def forget() -> None:
    """Forget what DeepSpeed and accelerate keep of a trial that has ended.

    DeepSpeed keeps the model of each ZeRO-3 trial in a list, and in a method's cache. Accelerate
    keeps the latest config, and as long as it exists, HF loads every model as that config says.
    """
    if offload := sys.modules.get("deepspeed.runtime.zero.parameter_offload"):
        offload.FWD_MODULE_STACK.clear()
        for method in vars(offload.PartitionedParameterCoordinator).values():
            wrapped = (cell.cell_contents for cell in getattr(method, "__closure__", None) or ())
            for function in (method, *wrapped):
                if hasattr(function, "cache_clear"):
                    function.cache_clear()
    AcceleratorState._reset_state()
