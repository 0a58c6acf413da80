"""Chooses the rows to train on and the rows to evaluate on, the same in all trials.

Runs wherever data is prepared; how many rows are held out is also checked before Ray starts. It
must not know where rows come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sweeps.builders.data.data_source import Split
from sweeps.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 10_000
ROWS_SEED = 1017
"""Seed for the selection of rows; it never changes, so all trials see the same rows."""


def choose_rows(
    splits: Mapping[Split, Dataset], train_rows: int | None, eval_rows: int | None
) -> tuple[Dataset, Dataset]:
    """Return the rows to train on and the rows to evaluate on, both in their original order.

    Held-out rows are drawn before the train rows, so they are the same whatever `train_rows` is.

    Args:
        splits: The rows of "train" and, if it exists, of "validation".
        train_rows: Maximum number of train rows; None: all rows that are not held out.
        eval_rows: Maximum number of rows of the validation split; if there is none, see
            `rows_to_hold_out`.
    """
    import numpy as np

    def drawn(table: Dataset, first: int, end: int | None) -> Dataset:
        # The stream of RandomState is guaranteed not to change (NEP 19), unlike that of
        # default_rng.
        order = np.random.RandomState(ROWS_SEED).permutation(len(table))[first:end]
        return table if len(order) == len(table) else table.select(np.sort(order))

    train = splits["train"]
    if "validation" in splits:
        return drawn(train, 0, train_rows), drawn(splits["validation"], 0, eval_rows)
    held_out = rows_to_hold_out(len(train), eval_rows)
    end = None if train_rows is None else held_out + train_rows
    return drawn(train, held_out, end), drawn(train, 0, held_out)


def rows_to_hold_out(rows: int, eval_rows: int | None) -> int:
    """Return how many rows of a train split are held out: `eval_rows`, or a tenth of the split.

    Raises:
        UserError: No rows would be left to train on or to evaluate on.
    """
    held_out = rows // 10 if eval_rows is None else eval_rows
    if held_out == 0 and eval_rows is None:
        raise UserError(
            f"no validation split, and the train split has only {rows} rows, too few to hold out a"
            " tenth for evaluation; add a validation split, or set eval_rows"
        )
    if not 0 < held_out < rows:
        raise UserError(
            f"eval_rows={eval_rows}: without a validation split, eval rows are held out from the"
            f" train split, which has {rows} rows; choose fewer than that, and at least 1, or add a"
            " validation split"
        )
    return held_out


def rows_in_both(train: Dataset, evaluation: Dataset, column: str) -> int:
    """Return how many rows to evaluate on have the same content as a row to train on."""
    content = Counter(str(value) for value in evaluation[column])
    found: set[str] = set()
    for batch in train.select_columns(column).iter(BATCH_ROWS):
        found |= content.keys() & set(map(str, batch[column]))
    return sum(content[value] for value in found)
