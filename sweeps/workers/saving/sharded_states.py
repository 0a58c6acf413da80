"""States of trials that FSDP2 shards: each rank saves its own part, with PyTorch's checkpoints.

Runs in a worker, on every rank. It must not know why a state is saved.

HF saves a sharded model either complete, gathered on rank 0, or in parts. An export needs it
complete, but a state does not, and another number of workers can load the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from accelerate.utils import is_peft_model
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import StateDictType
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback

from sweeps.errors import SweepError, UserError
from sweeps.workers.ranks import of_all_ranks
from sweeps.workers.saving.library_saves import saves_state

WAIT = timedelta(days=1)
"""How long a rank's thread waits for the others, which may be uploading something else."""


def _plugin(trainer: Trainer) -> Any:
    """Return accelerate's settings of FSDP; None without FSDP."""
    return getattr(trainer.accelerator.state, "fsdp_plugin", None)


def saves_parts(trainer: Trainer, save: Callable[..., None]) -> bool:
    """Tell whether each rank saves its own part of a state; every rank must ask at the same point.

    Otherwise, HF saves all of it on rank 0: without FSDP2; if the user's code is involved; and for
    an adapter, since of its parts accelerate (1.15) would save only the adapter's own weights.

    Args:
        trainer: The trainer.
        save: Its method that saves a state.

    Raises:
        UserError: The optimizer does not shard its state, which HF would save from rank 0 alone.
    """
    plugin = _plugin(trainer)
    if plugin is None or plugin.fsdp_version != 2:
        return False
    for weights, state in trainer.optimizer.state.items():
        for name, value in state.items():
            whole = isinstance(value, torch.Tensor) and not isinstance(value, DTensor)
            if isinstance(weights, DTensor) and whole and value.numel() > 1:
                raise UserError(
                    f"the state of optim={trainer.args.optim.value} cannot be saved if fsdp shards"
                    f" the model: each worker has its own {name!r}, and HF saves only that of the"
                    " first; use another optim"
                )
    return all(of_all_ranks(saves_state(trainer, save) and not is_peft_model(trainer.model)))


def has_parts(state: Path) -> bool:
    """Tell whether a state was saved in parts."""
    return bool(part_files(state))


class _Loaded(TrainerCallback):
    """Makes HF save complete states and models again, once it has loaded a state."""

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        _use(self._plugin, StateDictType.FULL_STATE_DICT)


def load_parts(trainer: Trainer) -> None:
    """Make HF load the state that it resumes in parts."""
    plugin = _plugin(trainer)
    _use(plugin, StateDictType.SHARDED_STATE_DICT)
    trainer.callback_handler.callbacks.insert(0, _Loaded(plugin))  # before the user's code


@contextmanager
def in_parts(trainer: Trainer) -> Iterator[None]:
    """Make HF save a state in parts meanwhile, which stay on their device until they are copied."""
    plugin = _plugin(trainer)
    _use(plugin, StateDictType.SHARDED_STATE_DICT)
    plugin.state_dict_config.offload_to_cpu = False
    try:
        yield
    finally:
        _use(plugin, StateDictType.FULL_STATE_DICT)


def _use(plugin: Any, kind: StateDictType) -> None:
    plugin.state_dict_config = plugin.optim_state_dict_config = None
    plugin.set_state_dict_type(kind)


class OtherRankFailed(SweepError):
    """Only another rank has failed."""


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise this rank's own error in place of PyTorch's error about it, which is no `Exception`.

    Raises:
        OtherRankFailed: Only other ranks have failed.
    """
    try:
        yield
    except CheckpointException as error:
        if own := error.failures.get(dist.get_rank()):
            raise own[0] from None
        rank = min(error.failures)
        raise OtherRankFailed(f"rank {rank} failed: {error.failures[rank][0]}") from None


def part_files(state: Path, rank: int | None = None) -> frozenset[Path]:
    """Return the files of all parts of a state, or of a rank's part (torch 2.11 to 2.13).

    The file `.metadata` beside them, by rank 0, belongs to no part.
    """
    return frozenset(state.glob(f"*/__{'*' if rank is None else rank}_*.distcp"))


class RankThreads:
    """The threads of all ranks of a group, which write parts in parallel with the training.

    They have a process group of their own, in host memory, since calls of two threads to one group
    could reach the ranks in different orders. Every rank must create it at the same point.
    """

    def __init__(self) -> None:
        self.group = dist.new_group(backend="gloo", timeout=WAIT)
        assert isinstance(self.group, dist.ProcessGroup)
        self._mesh = DeviceMesh.from_group(self.group, "cpu")

    def agree(self, error: BaseException | None) -> None:
        """Return once every rank has called this, if all of them have succeeded.

        Args:
            error: Why this rank has failed; None if it has not.

        Raises:
            OtherRankFailed: Only other ranks have failed.
        """
        failed = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(failed, None if error is None else str(error), self.group)
        if error is not None:
            raise error
        for rank, message in enumerate(failed):
            if message is not None:
                raise OtherRankFailed(f"rank {rank} failed: {message}")

    def end(self) -> None:
        """Release the process group."""
        dist.destroy_process_group(self.group)

    def local_part(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return this rank's part of a sharded tensor; any other tensor itself."""
        return tensor.to_local() if self._shards(tensor) else tensor

    def with_local_part(self, tensor: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        """Return a tensor that is sharded like another one, with this part, in host memory.

        If the other one is not sharded, `part` is returned itself.
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
        """Tell whether a tensor is sharded over as many ranks as there are, in one dimension."""
        return isinstance(tensor, DTensor) and tensor.device_mesh.shape == self._mesh.shape
