"""Summarizes the splits of a dataset: columns and row counts, as far as they are known cheaply.

Runs in the sweep process before Ray starts. It must not know about tasks, models or trials.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.builders.data.data_files import READERS, opened, split_files
from sweeps.builders.data.data_source import (
    SPLIT_NAMES,
    Source,
    Split,
    hub_builder,
    named_splits,
    saved_tables,
)
from sweeps.builders.hub import is_hub_name, reason
from sweeps.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """What is known about a split before its rows are read."""

    columns: tuple[str, ...] | None
    """Column names; None if only the rows would show them (some Hub datasets)."""
    rows: int | None
    """Number of rows, counted up to `count_to`; None if only reading the rows would tell."""


def summarize_splits(source: Source, count_to: int) -> dict[Split, SplitSummary]:
    """Return the columns and row counts of "train" and, if it exists, of "validation".

    Args:
        source: The dataset.
        count_to: If rows must be counted (csv, tsv, jsonl), stop at this number in each file.

    Raises:
        UserError: The dataset cannot be found or read, or has no train split.
    """
    dataset = source.dataset
    if is_hub_name(dataset):
        builder = hub_builder(source)
        columns = tuple(builder.info.features) if builder.info.features else None
        sizes = builder.info.splits or {}
        return {
            split: SplitSummary(
                columns=columns, rows=sizes[name].num_examples if name in sizes else None
            )
            for split, name in named_splits(sizes or builder.config.data_files, dataset).items()
        }
    if tables := saved_tables(dataset):
        return {
            split: SplitSummary(columns=tuple(table.column_names), rows=len(table))
            for split, table in tables.items()
        }
    return {
        split: _summarize_files(ending, paths, count_to)
        for split, (ending, paths) in split_files(dataset, source.config, SPLIT_NAMES).items()
    }


def _summarize_files(ending: str, files: list[Path], count_to: int) -> SplitSummary:
    try:
        if ending == "parquet":
            from pyarrow import parquet

            names = parquet.read_schema(files[0]).names
            rows = sum(parquet.read_metadata(path).num_rows for path in files)
        elif ending in ("csv", "tsv"):
            import pandas  # type: ignore[import-untyped]

            if not any(_first_lines(path, 1) for path in files):
                return SplitSummary(columns=(), rows=0)
            _, options = READERS[ending]
            names = list(map(str, pandas.read_csv(files[0], nrows=0, **options).columns))
            rows = sum(
                len(pandas.read_csv(path, usecols=[0], nrows=count_to, **options)) for path in files
            )
        else:
            found = [row for path in files for row in _json_rows(path, count_to)]
            names = list(found[0]) if found else []
            rows = len(found)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{files[0]}: cannot be read as {ending} ({reason(error)})") from error
    return SplitSummary(columns=tuple(names), rows=rows)


def _json_rows(path: Path, count: int) -> list[Mapping[str, Any]]:
    """Return all rows of a file with one list, or the first row of a file with one row per line.

    In the second case, the other rows are empty dicts: they are only counted.
    """
    rows: list[Mapping[str, Any]]
    lines = _first_lines(path, count)
    if lines and lines[0].lstrip().startswith(b"["):
        with opened(path) as file:
            rows = json.load(file)
    else:
        rows = [json.loads(line) for line in lines[:1]] + [{}] * len(lines[1:])
    if rows and not isinstance(rows[0], dict):
        raise ValueError("each row must be a JSON object: {...}")
    return rows


def _first_lines(path: Path, count: int) -> list[bytes]:
    with opened(path) as file:
        return list(itertools.islice(filter(bytes.strip, file), count))
