"""The rows that Ray Data streams to a worker group: prepared rows, read from their file in order.

Created in the sweep process, opened by a Ray Data task, consumed in the workers. It must not know
what the rows mean.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray.data
import ray.train
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.train import DataConfig

from sweeps.workers.group_size import DATA_CPUS

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

TRAIN = "train"
ROWS_AT_ONCE = 1000


def stream(rows: Dataset) -> dict[str, Any]:
    """Return the arguments that make a `TorchTrainer` stream these rows to its workers.

    The rows are read again in each epoch, a little ahead of the workers. All ranks get the same
    number of rows, and each rank gets the same rows in every epoch, since only the order of the
    rows decides.

    Args:
        rows: Mapped from a file that every node sees. (`ray.data.from_huggingface` would copy all
            of them into the object store; ray 2.60.)
    """
    source = ray.data.read_datasource(_File(rows), num_cpus=DATA_CPUS, override_num_blocks=1)
    source.context.enable_progress_bars = False
    return {
        "datasets": {TRAIN: source},
        "dataset_config": DataConfig(
            datasets_to_split=[TRAIN],
            execution_options=ray.data.ExecutionOptions(preserve_order=True),
            enable_shard_locality=False,
        ),
    }


def own_share() -> ray.data.DataIterator:
    """Return this rank's shard of the rows that its group was started with."""
    return ray.train.get_dataset_shard(TRAIN)


class _File(Datasource):
    """A source that is read by one task, so the order of rows is the same in every epoch."""

    def __init__(self, rows: Dataset) -> None:
        super().__init__()
        self._pickled = pickle.dumps(rows)  # pickles the path of their file, not the rows
        self._size = BlockMetadata(
            num_rows=len(rows), size_bytes=rows.data.nbytes, input_files=None, exec_stats=None
        )

    def estimate_inmemory_data_size(self) -> int | None:
        """Return the total size of the rows in bytes."""
        size: int | None = self._size.size_bytes
        return size

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Return the one task."""
        pickled = self._pickled
        return [ReadTask(lambda: _read(pickled), self._size)]


def _read(pickled: bytes) -> Iterator[pyarrow.Table]:
    yield from pickle.loads(pickled).with_format("arrow").iter(ROWS_AT_ONCE)
