"""Saves a model by copying its weights to host memory; the weight files are written later.

Runs in a worker: HF saves in the main thread, and the thread of `snapshots` writes the weight
files. It must not know why a model is saved.

As without `sweeps`, HF decides what is saved and how: sharded, only adapters, renamed. Meanwhile,
only safetensors' `save_file` is replaced, in the libraries that have imported it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Trainer

from sweeps.workers.free_memory import free_memory

logger = logging.getLogger("sweeps")

LIBRARIES = frozenset({"transformers", "peft", "trl", "safetensors"})
"""Libraries whose code does not read the files that it has just saved; other code may."""


@dataclass(frozen=True, kw_only=True)
class _File:
    weights: dict[str, torch.Tensor]
    path: Path
    metadata: dict[str, str] | None


@dataclass(frozen=True)
class Unwritten:
    """Weight files that exist only in host memory."""

    files: list[_File] = field(default_factory=list)
    buffers: list[torch.Tensor] = field(default_factory=list)
    """The buffers that contain the weights."""


class HostCopies:
    """Copies of weights in host memory, which is pinned for weights on a GPU.

    Memory is reused for the next copy, so it is allocated only once.

    Args:
        room: Returns how many bytes may be allocated.
    """

    def __init__(self, room: Callable[[], int] = free_memory) -> None:
        self._room = room
        self._spare = defaultdict[int, list[torch.Tensor]](list)
        """Buffers that are not in use, by size in bytes."""

    def save(self, trainer: Trainer, folder: Path) -> Unwritten:
        """Make HF save the model to a folder; return the weight files that are not written yet."""
        unwritten = Unwritten()
        if not _saves_by_library(trainer):
            trainer.save_model(str(folder))
            return unwritten
        with _instead_of_save_file(
            lambda weights, path, metadata: self._keep(unwritten, weights, path, metadata)
        ):
            trainer.save_model(str(folder))
        return unwritten

    def write(self, unwritten: Unwritten) -> None:
        """Write the files."""
        for file in unwritten.files:
            save_file(file.weights, file.path, file.metadata)
        self.drop(unwritten)

    def drop(self, unwritten: Unwritten) -> None:
        """Release the memory for reuse; the files will not be written."""
        unwritten.files.clear()
        while unwritten.buffers:
            buffer = unwritten.buffers.pop()
            self._spare[buffer.nbytes].append(buffer)

    def _keep(
        self,
        unwritten: Unwritten,
        weights: Mapping[str, torch.Tensor],
        path: Path,
        metadata: dict[str, str] | None,
    ) -> None:
        """Copy the content of a file; write the file if that is not possible."""
        if not all(map(_is_plain, weights.values())) or _overlap(weights.values()):
            save_file(dict(weights), path, metadata)
            return
        if (more := self._more(weights)) > (room := self._room()):
            logger.info(
                "training is waiting until %s is written: a copy of its weights needs %.1f GB, but"
                " the host has only %.1f GB to spare",
                path.name,
                more / 1e9,
                max(room, 0) / 1e9,
            )
            save_file(dict(weights), path, metadata)
            return
        buffers: list[torch.Tensor] = []
        try:
            copies = {name: self._copy(buffers, one) for name, one in weights.items()}
        except (RuntimeError, MemoryError) as error:  # pinned memory may have a limit of its own
            logger.info(
                "training is waiting until %s is written: memory for a copy of its weights cannot"
                " be allocated (%s)",
                path.name,
                str(error).partition("\n")[0],
            )
            self.drop(Unwritten(buffers=buffers))
            save_file(dict(weights), path, metadata)
            return
        for gpu in {one.device for one in weights.values() if one.is_cuda}:
            torch.cuda.current_stream(gpu).synchronize()
        unwritten.files.append(_File(weights=copies, path=path, metadata=metadata))
        unwritten.buffers.extend(buffers)

    def _more(self, weights: Mapping[str, torch.Tensor]) -> int:
        """Return the bytes that a copy needs in addition to the spare buffers."""
        wanted, taken = defaultdict[int, int](int), dict[int, int]()
        for one in weights.values():
            wanted[one.nbytes] += 1
            taken[one.nbytes] = _pinned(one.nbytes) if one.is_cuda else one.nbytes
        return sum(
            taken[size] * max(0, many - len(self._spare.get(size, ())))
            for size, many in wanted.items()
        )

    def _copy(self, buffers: list[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
        if spare := self._spare.get(weights.nbytes):
            buffer = spare.pop()
        else:
            buffer = torch.empty(weights.nbytes, dtype=torch.uint8, pin_memory=weights.is_cuda)
        buffers.append(buffer)
        copy = buffer.view(weights.dtype).view(weights.shape)
        return copy.copy_(weights.detach(), non_blocking=True)


def _pinned(size: int) -> int:
    """Return how many bytes PyTorch allocates for pinned memory: a power of two (2.13)."""
    return 1 << max(0, size - 1).bit_length()


def _saves_by_library(trainer: Trainer) -> bool:
    """Tell whether none of the user's code is involved in a save."""
    models = (
        trainer.model,
        trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False),
    )
    # Trainer has no public method for what `_save` does (transformers 5.17 to 5.23).
    steps = [trainer.save_model, trainer._save]
    steps += [model.save_pretrained for model in models if hasattr(model, "save_pretrained")]
    return all(map(_is_by_library, steps))


def _is_by_library(function: Any) -> bool:
    """Tell whether a function, and whatever it wraps, is defined in one of the libraries.

    Its `__module__` does not tell: `functools.wraps` copies that of the wrapped function.
    """
    module = getattr(function, "__globals__", {}).get("__name__", "")
    wrapped = getattr(function, "__wrapped__", None)
    return _library(module) in LIBRARIES and (wrapped is None or _is_by_library(wrapped))


def _is_plain(weights: torch.Tensor) -> bool:
    """Tell whether a tensor is just bytes in the memory of the host or a GPU."""
    return (
        type(weights) in (torch.Tensor, torch.nn.Parameter)
        and weights.device.type in ("cpu", "cuda")
        and weights.layout == torch.strided
        and weights.is_contiguous()
    )


def _overlap(tensors: Iterable[torch.Tensor]) -> bool:
    """Tell whether two contiguous tensors share memory; `save_file` refuses those."""
    places = sorted((one.data_ptr(), one.nbytes) for one in tensors if one.nbytes)
    return any(start + size > following for (start, size), (following, _) in pairwise(places))


@contextmanager
def _instead_of_save_file(
    keep: Callable[[Mapping[str, torch.Tensor], Path, dict[str, str] | None], None],
) -> Iterator[None]:
    """In this thread, make the libraries call `keep` in place of `save_file`."""
    saving = threading.get_ident()

    def routed(
        tensors: dict[str, torch.Tensor],
        filename: str | Path,
        metadata: dict[str, str] | None = None,
    ) -> None:
        if threading.get_ident() == saving:
            keep(tensors, Path(filename), metadata)
        else:
            save_file(tensors, filename, metadata)

    _replace(save_file, routed)
    try:
        yield
    finally:
        _replace(routed, save_file)  # also where `routed` was imported meanwhile


def _replace(one: Callable[..., None], other: Callable[..., None]) -> None:
    """Replace a function by another wherever the libraries have imported it."""
    for key, module in list(sys.modules.items()):
        if _library(key) in LIBRARIES:
            for name, value in list(vars(module).items()):
                if value is one:
                    setattr(module, name, other)


def _library(module: str) -> str:
    return module.partition(".")[0]
