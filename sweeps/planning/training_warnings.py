"""Warnings about arguments that have no effect, recompile repeatedly, or resume inexactly.

Runs in the sweep process before the first trial. It must not refuse anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ray.tune.search.sample import Categorical

from sweeps.space.arguments import half_precision_switched_off, split_batch
from sweeps.space.conditions import branches_of
from sweeps.space.search_space import MAX_ROWS, TOTAL_BATCH, SearchSpace, fixed_values
from sweeps.space.sharding import shards

COMPILES = ("torch_compile", "torch_compile_backend", "torch_compile_mode")
"""Arguments that each make HF compile the model."""
SHAPES = re.compile(r"(^|_)(batch_size|length|tokens)$")
"""Names of numbers that determine the shapes of batches."""


def training_warnings(space: SearchSpace, *, workers: int, gpu: bool) -> Iterator[str]:
    """Yield the warnings about the arguments of a space.

    Args:
        space: The space.
        workers: Workers per trial.
        gpu: Whether they have GPUs.
    """
    if not gpu:
        yield from _without_gpu(space)
    yield from _compiles_anew(space, workers)
    yield from _resumes_inexactly(space)


def _without_gpu(space: SearchSpace) -> Iterator[str]:
    off = [key for key in half_precision_switched_off(space) if key in space.tuned]
    for key in off:
        yield (
            f"tuned[{key!r}] has no effect: trials run on CPUs, where {key} is turned off, so"
            f" trials that differ only in {key} are identical"
        )
    if shards(space):
        yield (
            "fsdp has no effect: trials run on CPUs, where HF trains with plain DDP, and each"
            " worker holds the whole model"
        )


def _compiles_anew(space: SearchSpace, workers: int) -> Iterator[str]:
    fixed = fixed_values(space)
    if not any(fixed.get(key) or key in space.tuned for key in COMPILES):
        return
    keys = [key for key in space.tuned if key in COMPILES[1:] or SHAPES.search(key)]
    if TOTAL_BATCH in keys and len(_rows_per_device(space, fixed.get(MAX_ROWS), workers)) == 1:
        keys = [key for key in keys if key != TOTAL_BATCH]
    if keys:
        yield (
            f"torch_compile with {', '.join(keys)} tuned: each worker group recompiles for every"
            " new value, and only trials with the same values share compiled code"
        )


def _resumes_inexactly(space: SearchSpace) -> Iterator[str]:
    key = "dataloader_in_order"
    if key in space.tuned or fixed_values(space).get(key) is False:
        yield (
            f"{key}=False with data-loader processes: batches arrive in no fixed order, so a trial"
            " that is resumed or run again does not reproduce its numbers"
        )
    key = "torch_compile_mode"
    mode = fixed_values(space).get(key)
    if key in space.tuned or mode not in (None, "default"):
        shown = f"{key}={mode}" if mode is not None else key
        yield f"{shown}: a resumed trial may not reproduce its numbers to the last bit"


def _rows_per_device(space: SearchSpace, max_rows: Any, workers: int) -> set[int]:
    """Return the possible rows per device for total batch sizes that are choices."""
    choices = [
        total
        for branch in branches_of(TOTAL_BATCH, space.tuned[TOTAL_BATCH])
        if isinstance(branch.domain, Categorical)
        for total in branch.domain.categories
    ]
    return {split_batch(total, workers, max_rows)[0] for total in choices}
