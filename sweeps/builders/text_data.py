"""What all builders that learn from texts check and load in the same way.

Called in the sweep process before Ray starts, and while data is prepared. Knows neither tasks,
weights nor trials.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.builders.chosen_rows import rows_to_hold_out
from sweeps.builders.data_source import Split, summarize_splits
from sweeps.builders.hub import is_hub_name, not_on_the_hub, reason
from sweeps.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def number_problems(builder: DataclassInstance, least: Mapping[str, int]) -> Iterator[str]:
    """The fields that are no whole number of at least so much; None is one where it is the default.

    Args:
        builder: A dataclass.
        least: The smallest sensible value, by field.
    """
    optional = {field.name for field in dataclasses.fields(builder) if field.default is None}
    for name, smallest in least.items():
        value = getattr(builder, name)
        if value is None and name in optional:
            continue
        if not isinstance(value, int) or value < smallest:
            yield f"{name}={value!r}: must be a whole number, at least {smallest}"


def data_problems(
    dataset: str,
    config: str | None,
    revision: str | None,
    columns: Mapping[str, str],
    eval_rows: int | None,
) -> Iterator[str]:
    """What keeps rows from being read, as far as files and columns tell.

    Args:
        dataset: Hub name or local folder.
        config: The builder's `dataset_config`.
        revision: Of a Hub data set; None: its newest.
        columns: The column that each field of the builder names.
        eval_rows: The builder's `eval_rows`.
    """
    if config is not None and Path(dataset).exists():
        yield f"dataset_config={config!r}: a local folder has none; remove it"
    try:
        splits = summarize_splits(dataset, config, revision, count_to=(eval_rows or 9) + 1)
        found = {split: summary.columns for split, summary in splits.items() if summary.columns}
        yield from column_problems(found, columns)
        rows = splits["train"].rows
        if "validation" not in splits and rows is not None:
            rows_to_hold_out(rows, eval_rows)
    except UserError as error:
        yield from error.problems


def column_problems(
    found: Mapping[Split, Sequence[str]], columns: Mapping[str, str]
) -> Iterator[str]:
    """The columns that splits lack, given those that each has and those that fields name."""
    for field, column in columns.items():
        lacking = [split for split, names in found.items() if column not in names]
        if lacking:
            has = ", ".join(found[lacking[0]])
            yield f"{field}={column!r}: no such column in {' and '.join(lacking)} (found: {has})"


def text_problems(tables: Mapping[Split, Dataset], text_column: str) -> Iterator[str]:
    """The splits whose text column holds something else, or rows without text."""
    for split, table in tables.items():
        feature = table.features[text_column]
        missing = table.data[text_column].null_count
        if getattr(feature, "dtype", None) not in ("string", "large_string"):
            yield f"text_column={text_column!r}: {split} holds {feature} there, not text"
        elif missing:
            yield f"text_column={text_column!r}: {missing} rows of {split} have no text"


def load_tokenizer(model: str, revision: str | None) -> PreTrainedTokenizerBase:
    """A model's own tokenizer.

    Args:
        model: Hub name or local folder.
        revision: Of a Hub model; None: its newest.

    Raises:
        UserError: It cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model, revision=revision or "main", trust_remote_code=False
        )
    except Exception as error:  # of a damaged file `tokenizers` raises a plain one
        if is_hub_name(model) and isinstance(error, OSError):
            raise not_on_the_hub(f"model={model!r}", error) from error
        raise UserError(
            f"model={model!r}: its tokenizer cannot be read ({reason(error)})"
        ) from error
    return tokenizer
