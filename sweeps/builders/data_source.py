"""Finds, reads and selects the rows of a dataset; a test split is read only on request.

The sweep process checks files and columns before Ray starts; rows are read wherever data is
prepared. It must not know about tasks, models or trials.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from sweeps.amounts import counted
from sweeps.builders.data_files import PACKED, READERS, configurations, split_files, unread_files
from sweeps.builders.hub import hub_answers, is_hub_name, not_fetched, not_on_the_hub, reason
from sweeps.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder

Split = Literal["train", "validation"]

SPLIT_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
}
"""The splits that are read, and the names that they may have in a dataset."""
TEST_NAMES: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "validation": ("test",)}
"""The same, with the test split in place of the validation split."""

BATCH_ROWS = 10_000
ROWS_SEED = 1017
"""Seed for the selection of rows; it never changes, so all trials see the same rows."""


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """What is known about a split before its rows are read."""

    columns: tuple[str, ...] | None
    """Column names; None if only the rows would show them (some Hub datasets)."""
    rows: int | None
    """Number of rows, counted up to `count_to`; None if only reading the rows would tell."""


def summarize_splits(
    dataset: str, config: str | None, revision: str | None, count_to: int
) -> dict[Split, SplitSummary]:
    """Return the columns and row counts of "train" and, if it exists, of "validation".

    Args:
        dataset: Local folder or Hub name.
        config: The configuration of a dataset that has several.
        revision: The revision of a Hub dataset; None: the newest.
        count_to: If rows must be counted (csv, tsv, jsonl), stop at this number in each file.

    Raises:
        UserError: The dataset cannot be found or read, or has no train split.
    """
    if is_hub_name(dataset):
        builder = _hub_builder(dataset, config, revision)
        columns = tuple(builder.info.features) if builder.info.features else None
        sizes = builder.info.splits or {}
        return {
            split: SplitSummary(
                columns=columns, rows=sizes[name].num_examples if name in sizes else None
            )
            for split, name in _named_splits(sizes or builder.config.data_files, dataset).items()
        }
    if tables := _saved_tables(dataset):
        return {
            split: SplitSummary(columns=tuple(table.column_names), rows=len(table))
            for split, table in tables.items()
        }
    return {
        split: _summarize_files(ending, paths, count_to)
        for split, (ending, paths) in split_files(dataset, config, SPLIT_NAMES).items()
    }


def local_files(
    dataset: str, config: str | None, named: Mapping[Split, tuple[str, ...]]
) -> list[Path]:
    """Return the files in a local folder that the `named` splits are read from.

    Raises:
        UserError: The folder does not exist, or has no train split.
    """
    if folders := _saved_folders(dataset, named):
        return [file for folder in folders.values() for file in sorted(folder.iterdir())]
    found = split_files(dataset, config, named)
    return [file for _, files in found.values() for file in files]


def read_splits(
    dataset: str,
    config: str | None,
    revision: str | None,
    named: Mapping[Split, tuple[str, ...]] = SPLIT_NAMES,
) -> dict[Split, Dataset]:
    """Return the rows of "train" and, if it exists, of "validation", memory-mapped.

    `datasets` downloads all splits of a Hub dataset at once; those that are not `named` stay
    unopened.

    Raises:
        UserError: The dataset cannot be found or read, or has no train split.
    """
    import datasets

    if not is_hub_name(dataset) and (tables := _saved_tables(dataset, named)):
        return tables
    try:
        if is_hub_name(dataset):
            builder = _hub_builder(dataset, config, revision)
            builder.download_and_prepare()
            names = _named_splits(builder.info.splits, dataset, named)
            return {split: builder.as_dataset(split=name) for split, name in names.items()}
        # Pass each file by name: given the folder, `load_dataset` would read every split in it.
        files: dict[str, dict[Split, list[str]]] = {}
        for split, (ending, paths) in split_files(dataset, config, named).items():
            files.setdefault(ending, {})[split] = [str(path) for path in paths]
        read: dict[Split, Dataset] = {}
        for ending, of_splits in files.items():
            reader, options = READERS[ending]
            read |= datasets.load_dataset(reader, data_files=of_splits, **options)
        return read
    except (datasets.exceptions.DatasetGenerationError, OSError) as error:
        cause = reason(error.__cause__ or error)
        raise UserError(f"dataset={dataset!r}: its rows cannot be read ({cause})") from error


def unread_splits(
    dataset: str, config: str | None, revision: str | None, named: Mapping[Split, tuple[str, ...]]
) -> list[str]:
    """Return the splits that are not read of a dataset without a validation split.

    Of a local folder with files, these are the names of files. Empty if there is a validation
    split.

    Raises:
        UserError: The dataset cannot be found, or has no train split.
    """
    if is_hub_name(dataset):
        builder = _hub_builder(dataset, config, revision)
        names = list(builder.info.splits or builder.config.data_files)
    elif _saved_folders(dataset, named):
        names = _saved_names(dataset)
    else:
        read = split_files(dataset, config, named)
        files = [file for _, of_split in read.values() for file in of_split]
        return [] if "validation" in read else unread_files(Path(dataset), files)
    found = _named_splits(names, dataset, named) if names else {}
    return [] if "validation" in found else sorted({*names} - {*found.values()})


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


def data_problems(
    dataset: str,
    config: str | None,
    revision: str | None,
    columns: Mapping[str, str],
    eval_rows: int | None,
) -> Iterator[str]:
    """Yield the reasons why rows cannot be read, as far as files and columns show.

    Args:
        dataset: Hub name or local folder.
        config: The builder's `dataset_config`.
        revision: The revision of a Hub dataset; None: the newest.
        columns: The column that each field of the builder refers to.
        eval_rows: The builder's `eval_rows`.
    """
    try:
        if config is not None and (folder := Path(dataset)).exists():
            known = configurations(folder) if folder.is_dir() else []
            if not known:
                yield f"dataset_config={config!r}: this folder has no configurations; remove it"
                config = None
            elif config not in known:
                yield f"dataset_config={config!r}: the folder has only {', '.join(known)}"
                return
        splits = summarize_splits(dataset, config, revision, count_to=(eval_rows or 9) + 1)
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


def rows_in_both(train: Dataset, evaluation: Dataset, column: str) -> int:
    """Return how many rows to evaluate on have the same content as a row to train on."""
    content = Counter(str(value) for value in evaluation[column])
    found: set[str] = set()
    for batch in train.select_columns(column).iter(BATCH_ROWS):
        found |= content.keys() & set(map(str, batch[column]))
    return sum(content[value] for value in found)


def hub_cache(dataset: str) -> Path:
    """Return the folder where `datasets` keeps its downloads of a Hub dataset."""
    import datasets
    from datasets.naming import camelcase_to_snakecase

    *owner, name = dataset.split("/")
    return Path(
        datasets.config.HF_DATASETS_CACHE, "___".join([*owner, camelcase_to_snakecase(name)])
    )


def _hub_builder(dataset: str, config: str | None, revision: str | None) -> DatasetBuilder:
    import datasets

    wanted = f"dataset={dataset!r}" + (f" dataset_config={config!r}" if config else "")
    if not hub_cache(dataset).is_dir() and not hub_answers():
        raise not_on_the_hub(wanted)
    try:
        return datasets.load_dataset_builder(dataset, config, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise not_on_the_hub(wanted, error) from error


def _named_splits(
    names: Iterable[str], dataset: str, named: Mapping[Split, tuple[str, ...]] = SPLIT_NAMES
) -> dict[Split, str]:
    """Return the dataset's own names for the splits that are read, each the first that it has."""
    found = {
        split: own
        for split, aliases in named.items()
        if (own := next((name for name in aliases if name in names), None))
    }
    if "train" not in found:
        has = ", ".join(sorted(names)) or "none"
        raise UserError(f"dataset={dataset!r}: no train split (found: {has})")
    return found


def _saved_names(dataset: str) -> list[str]:
    """Return the names of all splits of a folder with several, written by `save_to_disk`."""
    listing = Path(dataset, "dataset_dict.json")
    return list(json.loads(listing.read_text())["splits"]) if listing.is_file() else []


def _saved_folders(
    dataset: str, named: Mapping[Split, tuple[str, ...]] = SPLIT_NAMES
) -> dict[Split, Path]:
    """Return the splits of a folder written by `save_to_disk`; none if it is not such a folder."""
    if names := _saved_names(dataset):
        found = _named_splits(names, dataset, named)
        return {split: Path(dataset, name) for split, name in found.items()}
    return {"train": Path(dataset)} if Path(dataset, "state.json").is_file() else {}


def _saved_tables(
    dataset: str, named: Mapping[Split, tuple[str, ...]] = SPLIT_NAMES
) -> dict[Split, Dataset]:
    """Return the rows of a folder written by `save_to_disk`; none if it is not such a folder."""
    folders = _saved_folders(dataset, named)
    if not folders:
        return {}
    from datasets import Dataset

    try:
        if problem := not_fetched(file for folder in folders.values() for file in folder.iterdir()):
            raise UserError(problem)
        return {split: Dataset.load_from_disk(str(folder)) for split, folder in folders.items()}
    except (OSError, ValueError) as error:
        raise UserError(f"dataset={dataset!r}: cannot be read ({reason(error)})") from error


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
        with _opened(path) as file:
            rows = json.load(file)
    else:
        rows = [json.loads(line) for line in lines[:1]] + [{}] * len(lines[1:])
    if rows and not isinstance(rows[0], dict):
        raise ValueError("each row must be a JSON object: {...}")
    return rows


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, (gzip.open if path.suffix == PACKED else open)(path, "rb"))


def _first_lines(path: Path, count: int) -> list[bytes]:
    with _opened(path) as file:
        return list(itertools.islice(filter(bytes.strip, file), count))
