"""The train rows that Ray Data gives one rank, as a PyTorch dataset, and a Trainer on them.

Runs in the workers. It must not know about trials or where Ray Data reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
from accelerate.data_loader import DataLoaderShard
from ray.data import DataIterator
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer

from sweeps.errors import SweepError

MIXED_ROWS = 10_000
"""Minimum number of rows that a rank buffers to draw from; if it has fewer, it buffers all."""
ROWS_AT_ONCE = 1000


class StreamedRows(IterableDataset[dict[str, Any]]):
    """One rank's shard of the train rows, in a new order in each epoch.

    All ranks get the same number of rows, so none waits for a peer that has run out. The last `rows
    mod workers` rows are never used. A rank gets the same rows in every epoch and every trial;
    their order depends on seed and epoch.

    Args:
        shard: This rank's shard from Ray Data.
        prepared: All rows, as `prepare()` returns them; streamed rows have the same format.
        workers: Number of ranks.
        seed: Seed of the order.
    """

    def __init__(
        self, shard: DataIterator, prepared: datasets.Dataset, *, workers: int, seed: int
    ) -> None:
        self._shard = shard
        self._info = prepared.info
        self._format = prepared.format
        self._rows = len(prepared) // workers
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        """Return the number of rows of this rank in an epoch."""
        return self._rows

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch, from 0."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of one epoch; all ranks must start it."""
        for table in self._shard.iter_batches(
            batch_size=ROWS_AT_ONCE,
            batch_format="pyarrow",
            local_shuffle_buffer_size=MIXED_ROWS,
            local_shuffle_seed=self._seed + self._epoch,
        ):
            rows = datasets.Dataset(table, info=self._info, fingerprint="streamed")
            rows.set_format(
                self._format["type"], self._format["columns"], **self._format["format_kwargs"]
            )
            columns = rows[:]
            for values in zip(*columns.values(), strict=True):
                yield dict(zip(columns, values, strict=True))


def take_as_they_come(trainer: Trainer) -> None:
    """Make a trainer build batches from its own rank's rows, counted as with any dataset.

    HF would split each rank's rows across all ranks again. Ray's `prepare_trainer` gives HF batches
    without their number, so epochs and the last, shorter accumulation are lost (ray 2.60,
    transformers 5.23).

    Raises:
        SweepError: The trainer has another train dataset.
    """
    if not isinstance(trainer.train_dataset, StreamedRows):
        raise SweepError(
            f"stream=True: the trainer's train_dataset is a {type(trainer.train_dataset).__name__},"
            " not the `data.train` that the builder received; pass that to the Trainer"
        )

    class Streaming(type(trainer)):  # type: ignore[misc]
        def get_train_dataloader(self) -> DataLoader[Any]:
            loader: DataLoader[Any] = DataLoaderShard(
                self.train_dataset,
                device=self.args.device,
                batch_size=self.args.train_batch_size,
                collate_fn=self._get_collator_with_removed_columns(self.data_collator),
                drop_last=self.args.dataloader_drop_last,
                pin_memory=self.args.dataloader_pin_memory,
            )
            return loader

    trainer.__class__ = Streaming
