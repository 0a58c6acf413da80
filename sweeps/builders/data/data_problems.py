"""Finds the reasons why a dataset cannot be used: missing splits, columns, rows or texts.

Files and columns are checked in the sweep process before Ray starts, texts wherever data is
prepared. It must not know about tasks, models or trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.amounts import counted
from sweeps.builders.data.chosen_rows import rows_to_hold_out
from sweeps.builders.data.data_files import configurations
from sweeps.builders.data.data_source import Source, Split
from sweeps.builders.data.split_summary import summarize_splits
from sweeps.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def data_problems(
    source: Source, columns: Mapping[str, str], eval_rows: int | None
) -> Iterator[str]:
    """Yield the reasons why rows cannot be read, as far as files and columns show.

    Args:
        source: The dataset.
        columns: The column that each field of the builder refers to.
        eval_rows: The builder's `eval_rows`.
    """
    dataset, config = source.dataset, source.config
    try:
        if config is not None and (folder := Path(dataset)).exists():
            known = configurations(folder) if folder.is_dir() else []
            if not known:
                yield f"dataset_config={config!r}: this folder has no configurations; remove it"
                source = replace(source, config=None)
            elif config not in known:
                yield f"dataset_config={config!r}: the folder has only {', '.join(known)}"
                return
        splits = summarize_splits(source, count_to=(eval_rows or 9) + 1)
        if empty := [split for split, summary in splits.items() if summary.rows == 0]:
            yield f"dataset={dataset!r}: no rows in {' and '.join(empty)}"
            return
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
    """Yield a problem for each field whose column is missing, given the columns of each split."""
    for field, column in columns.items():
        lacking = [split for split, names in found.items() if column not in names]
        if lacking:
            has = ", ".join(found[lacking[0]])
            yield f"{field}={column!r}: no such column in {' and '.join(lacking)} (found: {has})"


def text_problems(
    tables: Mapping[Split, Dataset], text_column: str, *, blank_is_missing: bool = False
) -> Iterator[str]:
    """Yield a problem for each split whose text column is not text, or has rows without text.

    Args:
        tables: The rows of each split.
        text_column: The column.
        blank_is_missing: Whether a blank text counts as none. A csv file cannot tell the two apart.
    """
    import pyarrow.compute as pc

    for split, table in tables.items():
        feature = table.features[text_column]
        texts = table.data[text_column]
        if getattr(feature, "dtype", None) not in ("string", "large_string"):
            yield (
                f"text_column={text_column!r}: this column of {split} contains {feature}, not text"
            )
            continue
        missing = texts.null_count
        if blank_is_missing:  # chunk by chunk, since the trimmed texts are in memory
            blank = (pc.equal(pc.utf8_trim_whitespace(chunk), "") for chunk in texts.chunks)
            missing += sum(pc.sum(of_chunk).as_py() or 0 for of_chunk in blank)
        if missing:
            yield (
                f"text_column={text_column!r}: {split} has {counted(missing, 'row')}"
                " without text; remove such rows"
            )
