"""Passes what HF saves to a function, which may write it later.

Runs in a worker, in the main thread. It must not know why something is saved or what happens to it.

As without `sweeps`, HF decides what is saved and how: sharded, only adapters, renamed. Meanwhile,
only three functions are replaced: safetensors' `save_file`, in the libraries that have imported it,
`torch.save`, and `torch.distributed.checkpoint.save`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint
from safetensors.torch import save_file
from transformers import Trainer, TrainerCallback

checkpoints: Any = torch.distributed.checkpoint  # it does not list `save` as its own (2.13)
LIBRARIES = frozenset({"transformers", "peft", "trl", "safetensors"})
"""Libraries whose code does not read the files that it has just saved; other code may."""
Write = Callable[[Any], None]
"""Writes content to a file."""
Keep = Callable[[Any, Path, Write], None]
"""Receives the content of a file, the file, and what writes it."""
WriteParts = Callable[[Any, dist.ProcessGroup | None], None]
"""Writes a rank's part of sharded content, together with the other ranks of the process group;
None: the default one."""
KeepParts = Callable[[Any, WriteParts], None]
"""Receives sharded content, and what writes a rank's part of it."""


def saves_model(trainer: Trainer) -> bool:
    """Tell whether none of the user's code is involved when the model is saved."""
    models = (
        trainer.model,
        trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False),
    )
    # Trainer has no public method for what `_save` does (transformers 5.17 to 5.23).
    steps = [trainer.save_model, trainer._save]
    steps += [model.save_pretrained for model in models if hasattr(model, "save_pretrained")]
    return all(map(_is_by_library, steps))


def saves_state(trainer: Trainer, save: Callable[..., None]) -> bool:
    """Tell whether none of the user's code is involved when a complete state is saved.

    A callback that acts on a save may read the files, even if it comes with a library.

    Args:
        trainer: The trainer.
        save: Its method that saves a state.
    """
    # There are no public methods for these steps (transformers 5.17 to 5.23).
    steps = [save, trainer._save_optimizer_and_scheduler, trainer._save_scaler]
    steps += [trainer._save_rng_state]
    acts = [_module(own.on_save) for own in trainer.callback_handler.callbacks]
    return (
        saves_model(trainer)
        and all(map(_is_by_library, steps))
        and all(
            name == TrainerCallback.__module__ or _library(name) == _library(__name__)
            for name in acts
        )
    )


@contextmanager
def instead_of_writing(keep: Keep, keep_parts: KeepParts, folder: Path) -> Iterator[None]:
    """In this thread, make the libraries call `keep` in place of what writes a file.

    Args:
        keep: Called for each file.
        keep_parts: Called for content of which each rank writes its part.
        folder: What `torch.save` writes elsewhere is written as usual.
    """
    saving: int | None = threading.get_ident()
    torch_save, parts_save = torch.save, checkpoints.save

    def routed_file(
        tensors: dict[str, torch.Tensor],
        filename: str | Path,
        metadata: dict[str, str] | None = None,
    ) -> None:
        def write(content: dict[str, torch.Tensor]) -> None:
            save_file(content, filename, metadata)

        if threading.get_ident() == saving:
            keep(dict(tensors), Path(filename), write)
        else:
            write(tensors)

    def routed(obj: Any, f: Any, *more: Any, **options: Any) -> None:
        def write(content: Any) -> None:
            torch_save(content, f, *more, **options)

        is_ours = isinstance(f, str | os.PathLike) and Path(f).is_relative_to(folder)
        if is_ours and threading.get_ident() == saving:
            keep(obj, Path(f), write)
        else:
            write(obj)

    def routed_parts(state_dict: dict[str, Any], **options: Any) -> None:
        def write(content: dict[str, Any], group: dist.ProcessGroup | None) -> None:
            parts_save(content, process_group=group, **options)

        if threading.get_ident() == saving:
            keep_parts(state_dict, write)
        else:
            parts_save(state_dict, **options)

    _replace(save_file, routed_file)
    torch.save, checkpoints.save = routed, routed_parts
    try:
        yield
    finally:
        saving = None  # for what has imported them meanwhile
        torch.save, checkpoints.save = torch_save, parts_save
        _replace(routed_file, save_file)  # also where it was imported meanwhile


def _replace(one: Callable[..., None], other: Callable[..., None]) -> None:
    """Replace a function by another wherever the libraries have imported it."""
    for key, module in list(sys.modules.items()):
        if _library(key) in LIBRARIES:
            for name, value in list(vars(module).items()):
                if value is one:
                    setattr(module, name, other)


def _is_by_library(function: Any) -> bool:
    """Tell whether a function, and whatever it wraps, is defined in one of the libraries."""
    wrapped = getattr(function, "__wrapped__", None)
    return _library(_module(function)) in LIBRARIES and (wrapped is None or _is_by_library(wrapped))


def _module(function: Any) -> str:
    """Return the module that a function is defined in.

    Its `__module__` does not tell: `functools.wraps` copies that of the wrapped function.
    """
    name: str = getattr(function, "__globals__", {}).get("__name__", "")
    return name


def _library(module: str) -> str:
    return module.partition(".")[0]
