"""Chooses the rows of a data set to train on and to judge by.

Runs wherever data is prepared. Knows neither tasks, models nor trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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
