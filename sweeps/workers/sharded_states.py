"""States of sharded trials (FSDP): each rank writes and reads its own part.

Runs in a worker, on every rank. It must not know why a state is saved.

By default, HF gathers a state on rank 0, which writes the weights twice (`FULL_STATE_DICT`,
transformers 5.17 to 5.23). With `SHARDED_STATE_DICT`, it uses `torch.distributed.checkpoint`: each
rank writes what it holds, and any number of workers can read that. But then `save_model` saves
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import Trainer


def save_in_parts(trainer: Trainer) -> None:
    """Make HF save and load the states of a trainer in parts, if it is sharded."""
    _set_kind(trainer, "SHARDED_STATE_DICT")


@contextmanager
def gathered(trainer: Trainer) -> Iterator[None]:
    """Within the context, HF gathers a sharded model on rank 0 to save it."""
    _set_kind(trainer, "FULL_STATE_DICT")
    try:
        yield
    finally:
        save_in_parts(trainer)


def own_parts(state: Path, rank: int) -> list[Path]:
    """Return the files of a sharded state that a rank has written."""
    return list(state.glob(f"*/__{rank}_*.distcp"))


def _set_kind(trainer: Trainer, kind: str) -> None:
    if not trainer.is_fsdp_enabled:
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    # Otherwise, the settings of the other kind would stay (accelerate 1.15).
    plugin.state_dict_config = plugin.optim_state_dict_config = None
    plugin.set_state_dict_type(kind)
