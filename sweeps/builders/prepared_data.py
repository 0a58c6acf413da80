"""Chooses the rows of a data set and keeps what is made of them in files that are made once a node.

Runs in the workers, in all ranks and groups of a node at once: one makes the files, the others
wait and map them into memory. Knows neither tasks, models nor trials.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from sweeps.builders.data_source import Split

ROWS_SEED = 1017
"""Seed of the choice of rows: nothing varies it, so all trials see the same rows."""


def choose_rows(
    splits: Mapping[Split, Dataset], train_rows: int | None, eval_rows: int | None
) -> tuple[Dataset, Dataset]:
    """The rows to train on and the rows to judge by, both in the order of the data.

    Held-out rows are drawn before the train rows: they are the same whatever `train_rows` is.

    Args:
        splits: The rows of "train" and, where there is one, of "validation".
        train_rows: At most so many; None: all that are not held out.
        eval_rows: At most so many of the validation split; without one, see `rows_to_hold_out`.
    """
    import numpy as np

    def drawn(table: Dataset, first: int, end: int | None) -> Dataset:
        # RandomState: its stream is frozen for ever (NEP 19), that of default_rng is not.
        order = np.random.RandomState(ROWS_SEED).permutation(len(table))[first:end]
        return table if len(order) == len(table) else table.select(np.sort(order))

    train = splits["train"]
    if "validation" in splits:
        return drawn(train, 0, train_rows), drawn(splits["validation"], 0, eval_rows)
    held_out = rows_to_hold_out(len(train), eval_rows)
    end = None if train_rows is None else held_out + train_rows
    return drawn(train, held_out, end), drawn(train, 0, held_out)


def rows_to_hold_out(rows: int, eval_rows: int | None) -> int:
    """How many of a train split's rows are held out: `eval_rows`, or a tenth of them.

    Raises:
        UserError: No row would be left to train on, or to judge by.
    """
    held_out = rows // 10 if eval_rows is None else eval_rows
    if not 0 < held_out < rows:
        raise UserError(
            f"eval_rows={eval_rows}: there is no validation split, so these rows are held out of "
            f"train, which has only {rows}; give fewer, or a validation split"
        )
    return held_out


@contextlib.contextmanager
def one_process_a_node(what: str) -> Iterator[None]:
    """Lets one process of a node in at a time: the later ones find the files of the first."""
    from filelock import FileLock

    folder = _cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{_digest(what)}.lock"):
        yield


def map_rows(
    table: Dataset, encode: Callable[[Mapping[str, list[Any]]], dict[str, Any]], depends_on: str
) -> Dataset:
    """What `encode` makes of the rows, in a memory-mapped file that later calls find again.

    Args:
        table: The rows.
        encode: Returns the new columns of a batch of rows; the old ones are dropped.
        depends_on: All that the result depends on apart from the rows, the same in every process.
    """
    key = _digest(f"{table._fingerprint}\n{depends_on}")
    encoded: Dataset = table.map(
        encode,
        batched=True,
        remove_columns=table.column_names,
        new_fingerprint=key,
        # By default it lies beside the rows, where a save_to_disk folder may be read-only.
        cache_file_name=str(_cache_folder() / f"{key}.arrow"),
        load_from_cache_file=True,
    )
    return encoded


def _cache_folder() -> Path:
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "sweeps"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
