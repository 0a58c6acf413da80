"""Finds and reads the splits of a dataset; a test split is read only on request.

The sweep process finds them before Ray starts; rows are read wherever data is prepared. It must
not know about tasks, models or trials.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sweeps.builders.data.data_files import READERS, split_files, unread_files
from sweeps.builders.data.joined_lines import joined_lines
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


@dataclass(frozen=True)
class Source:
    """Where rows come from."""

    dataset: str
    """Hub name or local folder."""
    config: str | None
    """The configuration, the builder's `dataset_config`; None if the dataset has only one."""
    revision: str | None
    """The revision of a Hub dataset; None: the newest."""


def local_files(source: Source, named: Mapping[Split, tuple[str, ...]]) -> list[Path]:
    """Return the files in a local folder that the `named` splits are read from.

    Raises:
        UserError: The folder does not exist, or has no train split.
    """
    if folders := _saved_folders(source.dataset, named):
        return [file for folder in folders.values() for file in sorted(folder.iterdir())]
    found = split_files(source.dataset, source.config, named)
    return [file for _, files in found.values() for file in files]


def read_splits(source: Source, named: Mapping[Split, tuple[str, ...]]) -> dict[Split, Dataset]:
    """Return the rows of "train" and, if it exists, of "validation", memory-mapped.

    `datasets` downloads all splits of a Hub dataset at once; those that are not `named` stay
    unopened.

    Raises:
        UserError: The dataset cannot be found or read, or has no train split.
    """
    import datasets

    dataset = source.dataset
    if not is_hub_name(dataset) and (tables := saved_tables(dataset, named)):
        return tables
    try:
        if is_hub_name(dataset):
            builder = hub_builder(source)
            builder.download_and_prepare()
            names = named_splits(builder.info.splits, dataset, named)
            return {split: builder.as_dataset(split=name) for split, name in names.items()}
        read: dict[Split, Dataset] = {}
        joined: list[str] = []
        # Each split is loaded on its own: `datasets` gives all splits that it loads at once the
        # columns and types of the first. Each file is passed by name: given the folder,
        # `load_dataset` would read every split in it.
        for split, (ending, paths) in split_files(dataset, source.config, named).items():
            reader, options = READERS[ending]
            files = {split: list(map(str, paths))}
            read[split] = datasets.load_dataset(reader, data_files=files, split=split, **options)
            if ending == "tsv":
                joined += joined_lines(read[split], paths)
        if joined:
            raise UserError(joined, where=f"dataset={dataset!r}")
        return read
    except (datasets.exceptions.DatasetGenerationError, OSError) as error:
        cause = reason(error.__cause__ or error)
        raise UserError(f"dataset={dataset!r}: its rows cannot be read ({cause})") from error


def unread_splits(source: Source, named: Mapping[Split, tuple[str, ...]]) -> list[str]:
    """Return the splits that are not read of a dataset without a validation split.

    Of a local folder with files, these are the names of files. Empty if there is a validation
    split.

    Raises:
        UserError: The dataset cannot be found, or has no train split.
    """
    dataset = source.dataset
    if is_hub_name(dataset):
        builder = hub_builder(source)
        names = list(builder.info.splits or builder.config.data_files)
    elif _saved_folders(dataset, named):
        names = _saved_names(dataset)
    else:
        read = split_files(dataset, source.config, named)
        files = [file for _, of_split in read.values() for file in of_split]
        return [] if "validation" in read else unread_files(Path(dataset), files)
    found = named_splits(names, dataset, named) if names else {}
    return [] if "validation" in found else sorted({*names} - {*found.values()})


def hub_cache(dataset: str) -> Path:
    """Return the folder where `datasets` keeps its downloads of a Hub dataset."""
    import datasets
    from datasets.naming import camelcase_to_snakecase

    *owner, name = dataset.split("/")
    return Path(
        datasets.config.HF_DATASETS_CACHE, "___".join([*owner, camelcase_to_snakecase(name)])
    )


def hub_builder(source: Source) -> DatasetBuilder:
    """Return the `datasets` builder of a Hub dataset, which has downloaded no rows yet.

    Raises:
        UserError: The Hub does not provide the dataset.
    """
    import datasets

    dataset, config = source.dataset, source.config
    wanted = f"dataset={dataset!r}" + (f" dataset_config={config!r}" if config else "")
    if not hub_cache(dataset).is_dir() and not hub_answers():
        raise not_on_the_hub(wanted)
    try:
        return datasets.load_dataset_builder(dataset, config, revision=source.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise not_on_the_hub(wanted, error) from error


def named_splits(
    names: Iterable[str], dataset: str, named: Mapping[Split, tuple[str, ...]] = SPLIT_NAMES
) -> dict[Split, str]:
    """Return the dataset's own names for the splits that are read, each the first that it has.

    Raises:
        UserError: The dataset has no train split.
    """
    found = {
        split: own
        for split, aliases in named.items()
        if (own := next((name for name in aliases if name in names), None))
    }
    if "train" not in found:
        has = ", ".join(sorted(names)) or "none"
        raise UserError(f"dataset={dataset!r}: no train split (found: {has})")
    return found


def saved_tables(
    dataset: str, named: Mapping[Split, tuple[str, ...]] = SPLIT_NAMES
) -> dict[Split, Dataset]:
    """Return the rows of a folder written by `save_to_disk`; none if it is not such a folder.

    Raises:
        UserError: The folder has no train split, or cannot be read.
    """
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


def _saved_names(dataset: str) -> list[str]:
    """Return the names of all splits of a folder with several, written by `save_to_disk`."""
    listing = Path(dataset, "dataset_dict.json")
    return list(json.loads(listing.read_text())["splits"]) if listing.is_file() else []


def _saved_folders(dataset: str, named: Mapping[Split, tuple[str, ...]]) -> dict[Split, Path]:
    """Return the splits of a folder written by `save_to_disk`; none if it is not such a folder."""
    if names := _saved_names(dataset):
        found = named_splits(names, dataset, named)
        return {split: Path(dataset, name) for split, name in found.items()}
    return {"train": Path(dataset)} if Path(dataset, "state.json").is_file() else {}
