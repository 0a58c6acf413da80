"""Random draws while train rows are loaded: the same ones in a trial that was resumed.

Runs in a worker, on every rank, and in its data-loader processes. It must not know trials.

Masks and crops are drawn from the generators of the process that loads a batch. `accelerate` loads
one batch ahead of the training (1.15), and data-loader processes load several, so no state of the
generators that is saved with a checkpoint could resume them. Here each batch has a seed of its own,
which follows from the trial's seed, the epoch and the batch's rows; what else draws from the
generators draws what it would if the rows drew nothing. An order of rows that is drawn from the
process's generator follows from seed and epoch, too. Processes that live for several epochs draw
their seed from a generator of their own, since a resumed trial starts them at another time; the
training's generator is drawn from once an epoch, as if they did not live on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def seed_rows(trainer: Trainer) -> None:
    """Have a trainer load its train rows with seeds of their own, before `train()`.

    Draws for evaluation come from generators that a resume restores, unless processes that live on
    load the rows. A dataset that can only be iterated draws its rows as it likes; what its collator
    draws is seeded by the batch's place.
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
                base.collate_fn.count_anew()  # the epoch is the same
        return loader

    trainer.get_train_dataloader = train_loader
    trainer.get_eval_dataloader = eval_loader
    trainer.add_callback(epochs)


class Draws:
    """Seeds what is drawn for a batch, in any process that loads batches.

    Args:
        seed: The seed of the trial's rows.
        rank: This worker's.
    """

    def __init__(self, seed: int, rank: int) -> None:
        self.epoch = torch.zeros((), dtype=torch.int64)
        """From 0. Shared with data-loader processes, which may live for several epochs."""
        self.epoch.share_memory_()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._rank = rank

    @contextmanager
    def of_batch(self, *place: Any) -> Iterator[None]:
        """Seed the generators of this process, and put them back.

        Args:
            place: What tells the batch from the others of its epoch.
        """
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        seed = _mixed(self._seed, self._rank, int(self.epoch), *place)
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # not those of GPUs
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])


class SeededRows(Dataset[Any]):
    """A dataset that gives out whole batches.

    Args:
        rows: The dataset; whatever else is asked, it answers.
        collate: Makes a batch of rows.
        draws: Seeds each batch.
    """

    def __init__(self, rows: Any, collate: Callable[[list[Any]], Any], draws: Draws) -> None:
        self.rows = rows
        self._collate = collate
        self._draws = draws

    def __len__(self) -> int:
        return len(self.rows)

    def __getattr__(self, name: str) -> Any:
        if name == "rows" or name.startswith("__"):  # while it is unpickled
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

    They are counted from 0 in every epoch, and in every evaluation.
    """

    def __init__(self, collate: Callable[[Any], Any], draws: Draws) -> None:
        self._collate = collate
        self._draws = draws
        self._count = torch.zeros((), dtype=torch.int64)
        """How often it was told to count anew. Shared with data-loader processes."""
        self._count.share_memory_()  # type: ignore[no-untyped-call]
        self._counted = -1, -1
        """Epoch and count of the batch before."""
        self._batch = 0

    def count_anew(self) -> None:
        """Count from 0, in every process."""
        self._count += 1

    def __call__(self, rows: Any) -> Any:
        counted = int(self._draws.epoch), int(self._count)
        self._counted, self._batch = counted, self._batch + 1 if counted == self._counted else 0
        process = torch.utils.data.get_worker_info()
        with self._draws.of_batch(process.id if process else 0, self._batch):
            return self._collate(rows)


class _Epochs(TrainerCallback):
    """Tells each epoch to the draws of batches, and to the samplers of rows.

    `accelerate` does not reach the samplers of several workers in the epoch that a trial resumes
    (1.15).
    """

    def __init__(self, draws: Draws, seed: int) -> None:
        self._draws = draws
        self._seed = seed
        self._samplers = list[Any]()
        self._generators = list[tuple[torch.Generator, int]]()
        """Generators of samplers, each with its seed."""
        self._first = True

    def take(self, loader: DataLoader[Any]) -> None:
        """Find the samplers of a loader, and give a generator to each that has none."""
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
        """Seed for the epoch that begins, or that goes on after a resume."""
        epoch = int(state.epoch or 0) if self._first else int(self._draws.epoch) + 1
        self._first = False
        self._draws.epoch.fill_(epoch)
        for sampler in self._samplers:
            sampler.set_epoch(epoch)
        for generator, seed in self._generators:
            generator.manual_seed(_mixed(seed, epoch) if epoch else seed)


def _pytorch_loader(loader: Any) -> DataLoader[Any] | None:
    """Return the loader of PyTorch, which `accelerate` keeps in its own; None if there is none."""
    base = getattr(loader, "base_dataloader", loader)
    return base if isinstance(base, DataLoader) else None


def _seed_batches(loader: DataLoader[Any], draws: Draws) -> None:
    if isinstance(loader.dataset, SeededRows) or isinstance(loader.collate_fn, _SeededCollate):
        return  # HF keeps a loader whose processes live on
    if loader.persistent_workers:
        loader.generator = torch.Generator()
        if loader.batch_sampler is not None:
            vars(loader)["batch_sampler"] = _DrawsWhenItBegins(loader.batch_sampler)
    if isinstance(loader.dataset, IterableDataset):
        loader.collate_fn = _SeededCollate(loader.collate_fn, draws)
    elif loader.batch_sampler is not None:
        # PyTorch refuses to have the dataset of a loader replaced; nothing has read from it so far.
        vars(loader)["dataset"] = SeededRows(loader.dataset, loader.collate_fn, draws)
        loader.collate_fn = _as_it_is


class _DrawsWhenItBegins:
    """Batches of rows; as their reading begins, one number is drawn, as PyTorch does (2.13).

    PyTorch draws a seed for the processes that load them, even where there are none, but not for
    those that it finds alive.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        torch.empty((), dtype=torch.int64).random_()  # once: of two iterators, PyTorch reads one
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
    """Return a seed of 32 bits that follows from numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=4).digest())
