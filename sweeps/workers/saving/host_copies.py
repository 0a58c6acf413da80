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

from sweeps.amounts import size
from sweeps.workers.host_memory import alone_on_host, free_memory
from sweeps.workers.ranks import of_all_ranks
from sweeps.workers.saving.library_saves import (
    Write,
    WriteParts,
    instead_of_writing,
    saves_model,
    saves_state,
)
from sweeps.workers.saving.sharded_states import RankThreads, in_parts

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
        self.threads: RankThreads | None = None
        """The threads of all ranks, once a state was saved of which each rank writes its part."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.threads is not None:
            self.threads.end()

    def save_model(self, trainer: Trainer, folder: Path) -> Unwritten:
        """Make HF save the complete model to a folder; return what is not written yet."""
        unwritten = Unwritten()
        with ExitStack() as saving:
            if saves_model(trainer):
                saving.enter_context(self._instead_of_writing(unwritten, folder))
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
        # Only rank 0 writes later. Trials that FSDP or DeepSpeed shards write in other ways.
        unwritten, sharded = Unwritten(), trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        first = trainer.args.process_index == 0
        with ExitStack() as saving:
            if first and not sharded and saves_state(trainer, save):
                saving.enter_context(self._instead_of_writing(unwritten, folder))
            save(*given, **named)
        return unwritten

    def save_part(
        self, trainer: Trainer, folder: Path, save: Callable[..., None], *given: Any, **named: Any
    ) -> Unwritten:
        """Make HF save this rank's part of a state; the arguments are those of `save_state`."""
        if self.threads is None:
            self.threads = RankThreads()
        unwritten, first = Unwritten(), trainer.args.process_index == 0
        with in_parts(trainer), self._instead_of_writing(unwritten, folder, files=first):
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
        self, unwritten: Unwritten, folder: Path, *, files: bool = True
    ) -> AbstractContextManager[None]:
        """Return a context in which what HF writes to a folder is copied instead.

        Without `files`, only this rank's part of a state is copied.
        """
        return instead_of_writing(
            partial(self._keep, unwritten) if files else lambda content, _, write: write(content),
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
        threads, own = self.threads, Unwritten()
        assert threads is not None
        copied = self._copied(content, folder, own, threads)
        if all(of_all_ranks(copied is not None)):
            unwritten.files.append(lambda: write(copied, threads.group))
            unwritten.buffers.extend(own.buffers)
        else:
            self.drop(own)
            write(content, None)

    def _copied(
        self, content: Any, path: Path, unwritten: Unwritten, threads: RankThreads | None = None
    ) -> Any:
        """Return a copy of what is to be written to a path; None if that is not possible.

        Args:
            content: Contains the tensors.
            path: The path.
            unwritten: Receives the buffers of the copy.
            threads: Of a tensor that is sharded over these ranks, this rank's part is copied.
        """
        if (tensors := _tensors(content)) is None:
            return None
        local = {id(one): threads.local_part(one) if threads else one for one in tensors}
        place = _place if threads else id  # names may share a part, but `save_file` refuses that
        parts = {place(part): part for part in local.values()}
        if not all(map(_is_plain, parts.values())) or _overlap(parts.values()):
            _say_waiting(path, "some of its tensors cannot be copied")
            return None
        if (buffers := self._take_buffers([*parts.values()], path)) is None:
            return None
        unwritten.buffers.extend(buffers)
        copies = dict(zip(parts, map(_copy, parts.values(), buffers), strict=True))
        for gpu in {one.device for one in parts.values() if one.is_cuda}:
            torch.cuda.current_stream(gpu).synchronize()
        copied = {id(one): copies[place(local[id(one)])] for one in tensors}
        if threads:
            copied = {id(one): threads.with_local_part(one, copied[id(one)]) for one in tensors}
        return _with_copies(content, copied)

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
            why = f"a copy of it needs {size(more)}, but the host has only {size(room)} to spare"
        except (RuntimeError, MemoryError, OSError) as error:  # pinned memory may have a limit
            self.drop(Unwritten(buffers=taken))
            reason = str(error).partition("\n")[0]
            why = f"memory for a copy of it cannot be allocated ({reason})"
        _say_waiting(path, why)
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


def _say_waiting(path: Path, why: str) -> None:
    logger.info("training is waiting until %s is written: %s", path.name, why)


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return what is equal for two tensors with the same content in the same memory."""
    if not _is_plain(tensor):
        return (id(tensor),)
    own = id(tensor) if tensor.numel() == 0 else tensor.data_ptr()
    return own, tensor.dtype, tensor.shape


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
