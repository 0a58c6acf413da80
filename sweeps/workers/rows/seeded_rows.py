"""Makes random draws during the loading of train rows the same in a resumed trial.

Runs in a worker, on every rank, and in its data-loader processes. It must not know about trials.

Masks and crops are drawn from the generators of the process that loads a batch. `accelerate` loads
one batch ahead of the training (1.15), and data-loader processes load several, so restoring the
generators from a checkpoint could not reproduce the draws. Here each batch has its own seed,
derived from the trial's seed, the epoch and the batch's rows; all other draws are as if the rows
drew nothing. If the order of rows is drawn from the process's generator, it is also derived from
seed and epoch. Persistent data-loader processes draw their seed from a separate generator, since a
resumed trial starts them at another time; one number per epoch is drawn from the training's
generator, as if they were not persistent.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def seed_rows(trainer: Trainer) -> None:
    """Make a trainer load its train rows with their own seeds; call this before `train()`.

    Draws for evaluation come from generators that a resume restores, unless persistent processes
    load the rows. The draws of an iterable dataset are not seeded, but those of its collator are,
    by the position of the batch.
    """
    args = trainer.args
    seed = args.seed if args.data_seed is None else args.data_seed
    draws = Draws(seed, args.process_index)
    epochs = _Epochs(draws, seed)
    make_train, make_eval = trainer.get_train_dataloader, trainer.get_eval_dataloader

    def train_loader() -> Any:
        loader = make_train()
        if (base := _pytorch_loader(loader)) is not None:
            _seed_batches(base, draws)
            epochs.take(base)
        return loader

    def eval_loader(*args: Any, **options: Any) -> Any:
        loader = make_eval(*args, **options)
        if (base := _pytorch_loader(loader)) is not None and base.persistent_workers:
            _seed_batches(base, draws)
            if isinstance(base.collate_fn, _SeededCollate):
                base.collate_fn.count_anew()  # an evaluation has the same epoch
        return loader

    trainer.get_train_dataloader = train_loader
    trainer.get_eval_dataloader = eval_loader
    trainer.add_callback(epochs)


class Draws:
    """Seeds what is drawn for a batch, in any process that loads batches.

    Args:
        seed: The seed of the trial's rows.
        rank: The rank of this worker.
    """

    def __init__(self, seed: int, rank: int) -> None:
        self.epoch = torch.zeros((), dtype=torch.int64)
        """The epoch, from 0; shared with data-loader processes, which may be persistent."""
        self.epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._rank = rank

    def of_batch(self, *place: Any) -> AbstractContextManager[None]:
        """Return a context in which the generators of this process have the seed of a batch.

        Args:
            place: What distinguishes the batch from others in its epoch.
        """
        return seeded(_mixed(self._seed, self._rank, int(self.epoch), *place))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generators of this process, but not those of GPUs; restore them after the context.

    Args:
        seed: At most 32 bits.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


class SeededRows(Dataset[Any]):
    """A dataset that returns whole batches.

    Args:
        rows: The dataset, which handles all other attributes.
        collate: Makes a batch from rows.
        draws: Seeds each batch.
    """

    def __init__(self, rows: Any, collate: Callable[[list[Any]], Any], draws: Draws) -> None:
        self.rows = rows
        self._collate = collate
        self._draws = draws

    def __len__(self) -> int:
        return len(self.rows)

    def __getattr__(self, name: str) -> Any:
        if name == "rows" or name.startswith("__"):  # `rows` is not set yet in unpickling
            raise AttributeError(name)
        return getattr(self.rows, name)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __getitems__(self, indices: Sequence[Any]) -> Any:
        """Return the batch of these rows."""
        with self._draws.of_batch(*indices):
            at_once = getattr(self.rows, "__getitems__", None)
            rows = at_once(indices) if at_once else [self.rows[index] for index in indices]
            return self._collate(rows)


class _SeededCollate:
    """Collates the batches of an iterated dataset.

    The batches are counted from 0 in every epoch and every evaluation.
    """

    def __init__(self, collate: Callable[[Any], Any], draws: Draws) -> None:
        self._collate = collate
        self._draws = draws
        self._count = torch.zeros((), dtype=torch.int64)
        """How often the count was restarted; shared with data-loader processes."""
        self._count.share_memory_()  # type: ignore[no-untyped-call]
        self._counted = -1, -1
        """Epoch and count of the previous batch."""
        self._batch = 0

    def count_anew(self) -> None:
        """Restart the count from 0, in every process."""
        self._count += 1

    def __call__(self, rows: Any) -> Any:
        counted = int(self._draws.epoch), int(self._count)
        self._counted, self._batch = counted, self._batch + 1 if counted == self._counted else 0
        process = torch.utils.data.get_worker_info()
        with self._draws.of_batch(process.id if process else 0, self._batch):
            return self._collate(rows)


class _Epochs(TrainerCallback):
    """Passes each epoch on to the draws of batches and to the samplers of rows.

    With several workers, `accelerate` does not reach the samplers in the epoch in which a trial
    resumes (1.15).
    """

    def __init__(self, draws: Draws, seed: int) -> None:
        self._draws = draws
        self._seed = seed
        self._samplers = list[Any]()
        self._generators = list[tuple[torch.Generator, int]]()
        """The generators of samplers, each with its seed."""
        self._first = True

    def take(self, loader: DataLoader[Any]) -> None:
        """Find the samplers of a loader, and give a generator to each sampler that has none."""
        sampler: Any = loader.batch_sampler
        while sampler is not None:
            if hasattr(sampler, "set_epoch"):
                self._samplers.append(sampler)
            elif hasattr(sampler, "generator"):
                if sampler.generator is None:
                    sampler.generator = torch.Generator().manual_seed(self._seed)
                if isinstance(sampler.generator, torch.Generator):
                    self._generators.append((sampler.generator, sampler.generator.initial_seed()))
            below = getattr(sampler, "batch_sampler", None)
            sampler = getattr(sampler, "sampler", None) if below is None else below

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Seed for the epoch that begins, or continues after a resume."""
        epoch = int(state.epoch or 0) if self._first else int(self._draws.epoch) + 1
        self._first = False
        self._draws.epoch.fill_(epoch)
        for sampler in self._samplers:
            sampler.set_epoch(epoch)
        for generator, seed in self._generators:
            generator.manual_seed(_mixed(seed, epoch) if epoch else seed)


def _pytorch_loader(loader: Any) -> DataLoader[Any] | None:
    """Return the PyTorch loader inside the loader of `accelerate`; None if there is none."""
    base = getattr(loader, "base_dataloader", loader)
    return base if isinstance(base, DataLoader) else None


def _seed_batches(loader: DataLoader[Any], draws: Draws) -> None:
    if isinstance(loader.dataset, SeededRows) or isinstance(loader.collate_fn, _SeededCollate):
        return  # already seeded: HF reuses a loader that has persistent workers
    if loader.persistent_workers:
        loader.generator = torch.Generator()
        if loader.batch_sampler is not None:
            vars(loader)["batch_sampler"] = _DrawsWhenItBegins(loader.batch_sampler)
    if isinstance(loader.dataset, IterableDataset):
        loader.collate_fn = _SeededCollate(loader.collate_fn, draws)
    elif loader.batch_sampler is not None:
        # PyTorch does not allow replacing the dataset of a loader, but nothing has read from it
        # yet.
        vars(loader)["dataset"] = SeededRows(loader.dataset, loader.collate_fn, draws)
        loader.collate_fn = _as_it_is


class _DrawsWhenItBegins:
    """Batches of rows; draws one number when iteration begins, as PyTorch does (2.13).

    PyTorch draws a seed for the data-loader processes, even if there are none, but not for
    processes that are already alive.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        torch.empty((), dtype=torch.int64).random_()  # once: PyTorch reads one of two iterators
        yield from self.batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == "batches" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.batches, name)


def _as_it_is(batch: Any) -> Any:
    return batch


def _mixed(*numbers: Any) -> int:
    """Return a 32-bit seed that is derived from numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest())
