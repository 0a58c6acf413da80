"""The size of checkpoints, how many exist at once on disk and in host memory, and the free disk.

Runs in the sweep process; reads only the headers of weight files.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from sweeps.builders.hub import is_hub_name
from sweeps.config import SweepConfig
from sweeps.space.conditions import branches
from sweeps.space.search_space import SearchSpace, fixed_values
from sweeps.space.sharding import uses_deepspeed

WEIGHT_BYTES = 4
"""Bytes per weight: training is in 32 bits."""
STATE_BYTES = 12
"""Bytes per weight of a complete state: the weight and Adam's two moments."""


DEEPSPEED_BYTES = 20
"""The same if DeepSpeed saves it, along with its own copy of the weights and those of AdamW."""


@dataclass(frozen=True)
class Disk:
    """Disk space that the checkpoints of a sweep need."""

    best_bytes: int | None
    """Bytes of a best checkpoint; None if the builder names no model with local files."""
    state_bytes: int | None
    """Maximum bytes of the state of a running trial, with Adam's moments."""
    best: int
    """Maximum number of best checkpoints at a time."""
    states: int
    """Maximum number of states at a time. A running trial has up to three (one complete, one being
    completed, one waiting to be completed), and a paused trial has one."""
    copies: int
    """Maximum number of checkpoints in host memory at a time: for each running trial, one that is
    being written and one that is waiting to be written."""
    free_bytes: int

    @property
    def copied_bytes(self) -> int | None:
        """Bytes of all copies if each is of a state; None if the sizes are unknown."""
        return None if self.state_bytes is None else self.copies * self.state_bytes

    @property
    def peak_bytes(self) -> int | None:
        """Maximum bytes of all checkpoints at a time; None if sizes are unknown."""
        if self.best_bytes is None or self.state_bytes is None:
            return None
        return self.best * self.best_bytes + self.states * self.state_bytes


def disk_needed(space: SearchSpace, config: SweepConfig, groups: int, paused: int) -> Disk:
    """Return what the checkpoints of running, paused and kept trials need.

    Args:
        space: The search space.
        config: The config, for the number of checkpoints to keep.
        groups: Number of trials that run at a time.
        paused: Maximum number of trials that are paused at a time.
    """
    weights = [found for model in _models(space) if (found := weights_of(model)) is not None]
    most = max(weights, default=None)
    state_bytes = DEEPSPEED_BYTES if uses_deepspeed(space) else STATE_BYTES
    place = config.storage_folder
    while not place.exists():
        place = place.parent
    return Disk(
        best_bytes=None if most is None else most * WEIGHT_BYTES,
        state_bytes=None if most is None else most * state_bytes,
        # Two more for each running trial: one being completed, and one waiting for that; with
        # repeats, another one for each open params set.
        best=config.keep_checkpoints + groups * (2 if config.repeats == 1 else 3),
        states=3 * groups + paused,
        copies=2 * groups,
        free_bytes=shutil.disk_usage(place).free,
    )


def _models(space: SearchSpace) -> set[str]:
    """Return the possible values of the builder's `model`."""
    found = {fixed_values(space).get("model")}
    for branch in branches(space.tuned):
        if branch.key == "model":
            found |= set(getattr(branch.domain, "categories", ()))
    return {model for model in found if isinstance(model, str)}


def weights_of(model: str) -> int | None:
    """Return the number of weights of a local model, or None if its files are not here.

    It is read from the headers of the safetensors files.
    """
    folder = Path(model)
    if is_hub_name(model):
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(model, "config.json")
        if not isinstance(cached, str):
            return None
        folder = Path(cached).parent
    files = sorted(folder.glob("*.safetensors"))
    return sum(map(_weights_in, files)) if files else None


def _weights_in(file: Path) -> int:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as weights:
        names = weights.keys()
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
