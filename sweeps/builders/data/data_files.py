"""Finds the files of each split of a local dataset, and the reader for them.

Runs in the sweep process before Ray starts, and wherever data is prepared. It must not know which
splits are read, and it must not read rows.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from sweeps.builders.hub import no_folder, not_fetched, reason
from sweeps.errors import UserError

Options = Mapping[str, Any]
_ALL_TEXTS: Options = {"keep_default_na": False}  # pandas reads the text "NA" as a missing value
READERS: Mapping[str, tuple[str, Options]] = {
    "parquet": ("parquet", {}),
    "csv": ("csv", _ALL_TEXTS),
    "tsv": ("csv", {"sep": "\t", **_ALL_TEXTS}),
    "jsonl": ("json", {}),
    "json": ("json", {}),
}
"""The file suffixes that are read, each with its `datasets` builder and options."""
PACKED = ".gz"
"""May follow the suffix; pandas and `datasets` decompress such files as they read them."""
TRAIN = "train"
"""The split that a dataset must have."""

Split = TypeVar("Split", bound=str)


def split_files(
    dataset: str, config: str | None, named: Mapping[Split, Sequence[str]]
) -> dict[Split, tuple[str, list[Path]]]:
    """Return the suffix and the files of each split of a local folder, train first.

    Files that are named after their split take precedence, and those of a split must be in one
    place. If there are none for train, the files are those that `datasets` infers, which also
    searches all subfolders.

    Args:
        dataset: The folder.
        config: One of its configurations; None: the default.
        named: The requested splits, and the names that each may have.

    Raises:
        UserError: The folder does not exist, has no train split that can be read, or has a split
            more than once.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        raise no_folder("dataset", dataset)
    found = {} if config else _named_files(folder, named)
    if TRAIN not in found:
        split_of = {name: split for split, names in named.items() for name in names}
        inferred = _inferred_files(folder, config)
        found = {split_of[name]: files for name, files in inferred.items() if name in split_of}
    by_ending = {split: _by_ending(found.get(split, [])) for split in named}
    kinds = {split: endings for split, endings in by_ending.items() if endings}
    if TRAIN not in kinds:
        here = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        expected = ", ".join(f"train.{ending}" for ending in READERS)
        raise UserError(
            f"dataset={dataset!r}: no train split; expected {expected} (each optionally with"
            f" {PACKED}), such files in train/ or data/, or a save_to_disk folder (found: {here})"
        )
    for split, endings in kinds.items():
        if len(endings) > 1:
            raise _twice(folder, split, endings)
        for files in endings.values():
            for file in files:
                if (packed := file.with_name(f"{file.name}{PACKED}")) in files:
                    raise _twice(folder, split, _names(folder, [file, packed]))
    of_splits = {split: item for split, endings in kinds.items() for item in endings.items()}
    if problem := not_fetched(file for _, files in of_splits.values() for file in files):
        raise UserError(problem)
    return of_splits


def unread_files(folder: Path, read: Collection[Path]) -> list[str]:
    """Return the names of the files in a local dataset that hold rows and are not read.

    These are the files in the folder and in folders below it and below `data/`.
    """
    found = {path for pattern in ("*", "*/*", "data/*/*") for path in folder.glob(pattern)}
    resolved = {file.resolve() for file in read}
    left = [file for file in found if _ending(file) in READERS and file.resolve() not in resolved]
    return sorted(_names(folder, left))


def configurations(folder: Path) -> list[str]:
    """Return the configurations that the card of a local dataset (README.md) declares.

    Raises:
        UserError: The card cannot be read.
    """
    import datasets
    import yaml

    try:
        names: list[str] = datasets.get_dataset_config_names(_absolute(folder))
    except yaml.YAMLError as error:
        raise _broken_card(folder, error) from None
    except (OSError, ValueError):  # no file that `datasets` can read
        return []
    return [] if names == ["default"] else names


def opened(file: Path) -> BinaryIO:
    """Open a file to read its content, which may be compressed."""
    return cast(BinaryIO, (gzip.open if file.suffix == PACKED else open)(file, "rb"))


def _named_files(folder: Path, named: Mapping[Split, Sequence[str]]) -> dict[Split, list[Path]]:
    shards = "-[0-9]*-of-[0-9]*"  # as the Hub names shards
    forms = ("{}", "{}/*", f"{{}}{shards}", "data/{}", "data/{}/*", f"data/{{}}{shards}")
    endings = [f".{ending}{packed}" for ending in READERS for packed in ("", PACKED)]
    found: dict[Split, list[Path]] = {}
    for split, names in named.items():
        starts = [form.format(name) for form, name in itertools.product(forms, names)]
        places = [
            sorted(path for ending in endings for path in folder.glob(f"{start}{ending}"))
            for start in starts
        ]
        places = list(filter(None, places))
        if len(places) > 1:
            raise _twice(folder, split, _names(folder, [files[0] for files in places]))
        if places:
            found[split] = places[0]
    return found


def _inferred_files(folder: Path, config: str | None) -> dict[str, list[Path]]:
    """Return the files of each split, under the split names of `datasets`.

    If no file name indicates a split, `datasets` uses all files as train. Here only a single file
    is used in this way, since one of several files may be held back for testing.
    """
    import datasets
    import yaml

    try:
        found = datasets.load_dataset_builder(_absolute(folder), config).config.data_files
    except yaml.YAMLError as error:
        raise _broken_card(folder, error) from None
    except (OSError, ValueError):  # several configurations, or no files of one format
        if config is None and len(known := configurations(folder)) > 1:
            raise UserError(
                f"dataset={str(folder)!r}: set dataset_config to one of its configurations:"
                f" {', '.join(known)}"
            ) from None
        return {}
    files = {str(split): [Path(file) for file in of_split] for split, of_split in found.items()}
    train = files.get(TRAIN, [])
    has_train = any(TRAIN in name for name in _names(folder, train))
    return files if config or has_train or len(train) == 1 else {}


def _twice(folder: Path, split: str, where: Iterable[str]) -> UserError:
    return UserError(
        f"dataset={str(folder)!r}: {split} exists as {' and '.join(where)}; keep only one of them"
    )


def _names(folder: Path, files: Iterable[Path]) -> list[str]:
    """Return the names of files, relative to the folder if they are below it."""

    def name(file: Path) -> str:
        for base in (folder, folder.resolve()):  # `datasets` resolves the folder
            if file.is_relative_to(base):
                return str(file.relative_to(base))
        return file.name

    return [name(file) for file in files]


def _broken_card(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"dataset={str(folder)!r}: the header of README.md is not valid YAML ({reason(error)})"
    )


def _by_ending(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return files by suffix, in the order of `READERS`, without files that are not read."""
    found: dict[str, list[Path]] = {ending: [] for ending in READERS}
    for path in files:
        if (ending := _ending(path)) in found:
            found[ending].append(path)
    return {ending: of_ending for ending, of_ending in found.items() if of_ending}


def _ending(file: Path) -> str:
    return file.name.removesuffix(PACKED).rpartition(".")[2]


def _absolute(folder: Path) -> str:
    """Return a path that `datasets` cannot mistake for one of its readers, such as `csv`."""
    return str(folder.resolve())
