"""Saves a model or a complete state by copying it to host memory; its files are written later.

Runs in a worker: HF saves in the main thread, and the thread of `snapshots` writes the files. It
must not know why something is saved.
"""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import torch
from transformers import Trainer

from sweeps.workers.free_memory import alone_on_host, free_memory
from sweeps.workers.library_saves import (
    Write,
    WriteParts,
    instead_of_writing,
    saves_model,
    saves_state,
)
from sweeps.workers.ranks import of_all_ranks
from sweeps.workers.sharded_states import Together, complete_model, on_its_device, saves_parts

logger = logging.getLogger("sweeps")


@dataclass(frozen=True)
class Unwritten:
    """Files whose content exists only in host memory."""

    files: list[Callable[[], None]] = field(default_factory=list)
    """Each writes one file."""
    buffers: list[torch.Tensor] = field(default_factory=list)
    """The buffers that contain the tensors."""


class HostCopies:
    """Copies of tensors in host memory, which is pinned for tensors on a GPU.

    Memory is reused for the next copy, so it is allocated only once. A context to exit after the
    last write.

    Args:
        room: Returns how many bytes may be allocated.
    """

    def __init__(self, room: Callable[[], int] = free_memory) -> None:
        self._room = room
        self._spare = defaultdict[int, list[torch.Tensor]](list)
        """Buffers that are not in use, by size in bytes."""
        self.together: Together | None = None
        """The ranks, once they have saved a state of which each writes its part."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.together is not None:
            self.together.end()

    def save_model(self, trainer: Trainer, folder: Path) -> Unwritten:
        """Make HF save the complete model to a folder; return what is not written yet."""
        unwritten = Unwritten()
        with complete_model(trainer), ExitStack() as saving:
            if saves_model(trainer):
                saving.enter_context(self._instead_of_writing(unwritten, folder, first=True))
            trainer.save_model(str(folder))
        return unwritten

    def save_state(
        self, trainer: Trainer, folder: Path, save: Callable[..., None], *given: Any, **named: Any
    ) -> Unwritten:
        """Make HF save a complete state to a folder; return what is not written yet.

        Args:
            trainer: The trainer.
            folder: The folder.
            save: The trainer's method that does so.
            given: Its positional arguments.
            named: Its other arguments.
        """
        unwritten, in_parts = Unwritten(), saves_parts(trainer)
        first = trainer.args.process_index == 0
        otherwise = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if in_parts and self.together is None:
            self.together = Together()
        with ExitStack() as saving:
            if in_parts:
                saving.enter_context(on_its_device(trainer))
            if saves_state(trainer, save) and (in_parts or (first and not otherwise)):
                saving.enter_context(self._instead_of_writing(unwritten, folder, first=first))
            save(*given, **named)
        return unwritten

    def write(self, unwritten: Unwritten) -> None:
        """Write the files."""
        for write in unwritten.files:
            write()
        self.drop(unwritten)

    def drop(self, unwritten: Unwritten) -> None:
        """Release the memory for reuse; the files will not be written."""
        unwritten.files.clear()
        while unwritten.buffers:
            buffer = unwritten.buffers.pop()
            self._spare[buffer.nbytes].append(buffer)

    def _instead_of_writing(
        self, unwritten: Unwritten, folder: Path, *, first: bool
    ) -> AbstractContextManager[None]:
        """Return a context in which what HF writes to a folder is copied instead.

        Ranks other than the `first` one write whole files at once.
        """
        return instead_of_writing(
            partial(self._keep, unwritten) if first else lambda content, _, write: write(content),
            partial(self._keep_part, unwritten, folder),
            folder,
        )

    def _keep(self, unwritten: Unwritten, content: Any, path: Path, write: Write) -> None:
        """Copy the content of a file; write the file if that is not possible."""
        copied = self._copied(content, path, unwritten)
        if copied is None:
            write(content)
        else:
            unwritten.files.append(lambda: write(copied))

    def _keep_part(
        self, unwritten: Unwritten, folder: Path, content: Any, write: WriteParts
    ) -> None:
        """Copy this rank's part of sharded content; write it if a rank cannot copy its own."""
        together, own = self.together, Unwritten()
        assert together is not None
        copied = self._copied(content, folder, own, together)
        if all(of_all_ranks(copied is not None)):
            unwritten.files.append(lambda: write(copied, together.group))
            unwritten.buffers.extend(own.buffers)
        else:
            self.drop(own)
            write(content, None)

    def _copied(
        self, content: Any, path: Path, unwritten: Unwritten, together: Together | None = None
    ) -> Any:
        """Return a copy of what is to be written to a path; None if that is not possible.

        Args:
            content: Contains the tensors; of those that are sharded, this rank's part is copied.
            path: The path.
            unwritten: Receives the buffers of the copy.
            together: The ranks over which tensors may be sharded.
        """
        if (tensors := _tensors(content)) is None:
            return None
        parts = [together.part(one) for one in tensors] if together else tensors
        if not all(map(_is_plain, parts)) or _overlap(parts):
            return None
        if (buffers := self._take_buffers(parts, path)) is None:
            return None
        unwritten.buffers.extend(buffers)
        copies = list(map(_copy, parts, buffers))
        for gpu in {one.device for one in parts if one.is_cuda}:
            torch.cuda.current_stream(gpu).synchronize()
        if together:
            copies = list(map(together.like, tensors, copies))
        return _with_copies(content, dict(zip(map(id, tensors), copies, strict=True)))

    def _take_buffers(
        self, tensors: Sequence[torch.Tensor], path: Path
    ) -> list[torch.Tensor] | None:
        """Return a buffer for a copy of each tensor; None if there is no memory for them."""
        taken: list[torch.Tensor] = []
        more = self._more(tensors)
        try:
            with alone_on_host() if more else nullcontext():
                if (room := self._room_for(more)) >= more:
                    taken += map(self._buffer, tensors)
                    return taken
            why = (
                f"a copy of it needs {more / 1e9:.1f} GB, but the host has only {room / 1e9:.1f} GB"
                " to spare"
            )
        except (RuntimeError, MemoryError, OSError) as error:  # pinned memory may have a limit
            self.drop(Unwritten(buffers=taken))
            reason = str(error).partition("\n")[0]
            why = f"memory for a copy of it cannot be allocated ({reason})"
        logger.info("training is waiting until %s is written: %s", path.name, why)
        return None

    def _room_for(self, more: int) -> int:
        """Return how many bytes may be allocated, after freeing unused ones if `more` needs it."""
        room = max(0, self._room())
        if more > room and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            # PyTorch keeps pinned memory that an earlier trial has released. 2.11 has no public
            # function to return it; 2.13 has `torch.accelerator.empty_host_cache`.
            torch._C._host_emptyCache()
            room = max(0, self._room())
        return room

    def _more(self, tensors: Iterable[torch.Tensor]) -> int:
        """Return the bytes that a copy needs in addition to the spare buffers."""
        wanted, taken = defaultdict[int, int](int), dict[int, int]()
        for one in tensors:
            wanted[one.nbytes] += 1
            taken[one.nbytes] = _pinned(one.nbytes) if one.is_cuda else one.nbytes
        return sum(
            taken[size] * max(0, many - len(self._spare.get(size, ())))
            for size, many in wanted.items()
        )

    def _buffer(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return host memory for a copy of a tensor."""
        if spare := self._spare.get(tensor.nbytes):
            return spare.pop()
        if tensor.is_cuda:
            return torch.empty(tensor.nbytes, dtype=torch.uint8, pin_memory=True)
        # Unlike pinned memory, `empty` would count as free until something is written to it.
        return torch.zeros(tensor.nbytes, dtype=torch.uint8)


def _copy(tensor: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    copied = buffer.view(tensor.dtype).view(tensor.shape)
    return copied.copy_(tensor.detach(), non_blocking=True)


def _pinned(size: int) -> int:
    """Return how many bytes PyTorch allocates for pinned memory: a power of two (2.13)."""
    return 1 << max(0, size - 1).bit_length()


def _tensors(content: Any) -> list[torch.Tensor] | None:
    """Return the tensors in the content of a file, each once; None if it cannot be copied.

    Besides tensors, it may consist of dicts, lists, tuples and plain values, none inside itself.
    """
    found: dict[int, torch.Tensor] = {}
    inside: list[tuple[Any, tuple[int, ...]]] = [(content, ())]
    while inside:
        one, around = inside.pop()
        if isinstance(one, torch.Tensor):
            found[id(one)] = one
        elif type(one) in (dict, OrderedDict, list, tuple):
            if id(one) in around:
                return None
            parts = [*one, *one.values()] if isinstance(one, dict) else one
            inside += [(part, (*around, id(one))) for part in parts]
        elif type(one) not in (str, int, float, bool, type(None)):
            return None
    return list(found.values())


def _with_copies(content: Any, copies: dict[int, torch.Tensor]) -> Any:
    """Return a copy of the content of a file, with copies in place of its tensors, by id."""
    if isinstance(content, torch.Tensor):
        return copies[id(content)]
    if isinstance(content, dict):
        copied = copy.copy(content)  # with the attributes of an OrderedDict
        copied.update((key, _with_copies(value, copies)) for key, value in content.items())
        return copied
    if type(content) in (list, tuple):
        return type(content)(_with_copies(one, copies) for one in content)
    return content


def _is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is just bytes in the memory of the host or a GPU."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.device.type in ("cpu", "cuda")
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
    )


def _overlap(tensors: Iterable[torch.Tensor]) -> bool:
    """Tell whether two contiguous tensors share memory, which their copies would not.

    `save_file` refuses such tensors.
    """
    places = sorted((one.data_ptr(), one.nbytes) for one in tensors if one.nbytes)
    return any(start + size > following for (start, size), (following, _) in pairwise(places))
