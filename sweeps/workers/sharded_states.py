"""States of trials that FSDP2 shards: each rank saves its own part, with PyTorch's checkpoints.

Runs in a worker, on every rank. It must not know why a state is saved.

HF saves a sharded model either complete, gathered on rank 0, or in parts. An export needs it
complete, but a state does not, and parts can be loaded by another number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import StateDictType
from torch.distributed.tensor import DTensor
from transformers import Trainer


def _plugin(trainer: Trainer) -> Any:
    """Return accelerate's settings of FSDP2; None if it does not shard the model."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    return plugin if plugin is not None and plugin.fsdp_version == 2 else None


def saves_parts(trainer: Trainer) -> bool:
    """Tell whether each rank saves and loads its own part of a state."""
    plugin = _plugin(trainer)
    return plugin is not None and plugin.state_dict_type == StateDictType.SHARDED_STATE_DICT


def save_parts(trainer: Trainer) -> None:
    """Make HF save and load states in parts if the model is sharded."""
    if plugin := _plugin(trainer):
        plugin.state_dict_config = plugin.optim_state_dict_config = None
        plugin.set_state_dict_type(StateDictType.SHARDED_STATE_DICT)


@contextmanager
def complete_model(trainer: Trainer) -> Iterator[None]:
    """Make HF save the complete model meanwhile, even if it is sharded."""
    if not saves_parts(trainer):
        yield
        return
    plugin = _plugin(trainer)
    plugin.state_dict_type = StateDictType.FULL_STATE_DICT
    try:
        yield
    finally:
        plugin.state_dict_type = StateDictType.SHARDED_STATE_DICT


@contextmanager
def on_its_device(trainer: Trainer) -> Iterator[None]:
    """Make HF pass the parts of a state as they are meanwhile, not as copies in host memory."""
    config = _plugin(trainer).state_dict_config
    config.offload_to_cpu = False
    try:
        yield
    finally:
        config.offload_to_cpu = True


def part_files(state: Path, rank: int | None = None) -> frozenset[Path]:
    """Return the files of all parts of a state, or of a rank's part (torch 2.11 to 2.13)."""
    return frozenset(state.glob(f"*/__{'*' if rank is None else rank}_*.distcp"))


class Together:
    """All ranks of a group, for what their threads do in parallel with the training.

    It has a process group of its own, in host memory, since calls of two threads to one group could
    reach the ranks in different orders. Every rank must create it at the same point.
    """

    def __init__(self) -> None:
        self.group = dist.new_group(backend="gloo")
        assert isinstance(self.group, dist.ProcessGroup)
        self._mesh = DeviceMesh.from_group(self.group, "cpu")

    def wait(self) -> None:
        """Return once every rank has called this."""
        dist.barrier(self.group)

    def end(self) -> None:
        """Release the process group."""
        dist.destroy_process_group(self.group)

    def part(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return this rank's part of a tensor that is sharded over just these ranks.

        Any other tensor is returned itself.
        """
        return tensor.to_local() if self._shards(tensor) else tensor

    def like(self, tensor: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        """Return a tensor that is sharded like another one, with this part, in host memory.

        If the other one is not sharded over just these ranks, `part` is returned itself.
        """
        if not self._shards(tensor):
            return part
        return DTensor.from_local(
            part,
            self._mesh,
            tensor.placements,
            run_check=False,
            shape=tensor.shape,
            stride=tensor.stride(),
        )

    def _shards(self, tensor: torch.Tensor) -> TypeGuard[DTensor]:
        return isinstance(tensor, DTensor) and tensor.device_mesh.shape == self._mesh.shape
