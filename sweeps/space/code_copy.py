"""The sweep's copy of the user's code: which files next to the space it includes, and how.

Copies in the sweep process; every process that reads a copy may ask which files belong to it. It
must not import what it copies.

Python files are copied, and so are small text files that the code may read. Everything else stays
where it is, and the copy has a link to it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.durable import CACHE_TAG
from sweeps.errors import UserError
from sweeps.secrets import named

if TYPE_CHECKING:
    from sweeps.space.loading import LoadedSpace

LIMIT_BYTES = 10 * 2**20
"""Maximum number of bytes that are copied."""
SMALL_BYTES = 2**20
"""Maximum size in bytes of a text file that is copied by default."""
CROWD = 100
"""A folder with more files than this contains data: none of its text files is copied by default."""
PROVENANCE = "provenance.json"
"""The file that identifies an exported folder."""
TEXTS = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".ini", ".jinja")
"""Suffixes of the text files that are copied by default."""


@dataclass(frozen=True)
class Code:
    """The files that a sweep takes along."""

    copied: tuple[Path, ...] = ()
    linked: tuple[Path, ...] = ()
    """Files and folders that stay where they are."""

    @property
    def bytes(self) -> int:
        """The total size of the copies."""
        return sum(file.stat().st_size for file in self.copied)


def find_code(loaded: LoadedSpace) -> Code:
    """Return the files that a sweep takes along from the folder of its space.

    Hidden files and folders, caches and sweep folders are left out, and so is everything but Python
    files in a storage folder. Nothing in an exported folder is copied.

    Raises:
        UserError: More than 10 MB would have to be copied, or a pattern matches no file.
    """
    folder, patterns = loaded.folder, loaded.space.files
    if folder is None:
        return Code()
    sizes = {file: file.stat().st_size for file in own_files(folder)}
    names = {file: file.relative_to(folder).as_posix() for file in sizes}
    for i, pattern in enumerate(patterns):
        if not any(fnmatch(name, pattern) for name in names.values()):
            raise UserError(f"files[{i}] = {pattern!r} matches no file under {folder}")
    copied = [file for file in sizes if is_asked(file.relative_to(folder), patterns)]
    total = sum(map(sizes.__getitem__, copied))
    if total > LIMIT_BYTES:
        what = "the .py files" + (" and the files that match `files`" if patterns else "")
        fix = "match fewer files, or " if patterns else ""
        raise UserError(
            f"{what} under {folder} total {total / 1e6:.0f} MB, but at most 10 MB are copied for"
            f" the workers; {fix}move the search space to a folder of its own"
        )
    beside = Counter(file.parent for file in sizes)
    texts = {
        file
        for file in sizes
        if file.suffix in TEXTS
        and sizes[file] <= SMALL_BYTES
        and beside[file.parent] <= CROWD
        and not _may_be_secret(file)
    }
    for file in sorted(texts.difference(copied), key=lambda file: (sizes[file], file)):
        total += sizes[file]
        if total > LIMIT_BYTES:
            break
        copied.append(file)
    return Code(tuple(sorted(copied)), tuple(_links(folder, sorted(sizes), copied)))


def copy_code(loaded: LoadedSpace, target: Path) -> None:
    """Copy the code to `target`, with the same layout as below the space's root.

    Raises:
        UserError: See `find_code`.
    """
    found = find_code(loaded)
    target.mkdir(parents=True)
    for file in (*found.copied, *found.linked):
        copy = target / file.relative_to(loaded.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file in found.linked:
            copy.symlink_to(file.resolve())
        else:
            shutil.copy2(file, copy)
    if loaded.text is not None and loaded.file is not None:  # in place of any file with that name
        own = target / loaded.file.relative_to(loaded.root)
        own.unlink(missing_ok=True)
        own.write_text(loaded.text)


def is_asked(file: Path, patterns: Sequence[str]) -> bool:
    """Tell whether a file is always copied, because it is Python code or matches `files`.

    Args:
        file: Its path below the folder of the space.
        patterns: The space's `files`.
    """
    return file.suffix == ".py" or any(fnmatch(file.as_posix(), each) for each in patterns)


def is_copy(file: Path) -> bool:
    """Tell whether a path in a copy of the code is a copied file, not a link or bytecode."""
    return file.is_file() and not file.is_symlink() and file.parent.name != "__pycache__"


def _may_be_secret(text: Path) -> bool:
    """Tell from its name and content whether a text file may contain credentials."""
    content = text.read_text(errors="replace")
    by_name = any(word in text.stem.lower() for word in ("secret", "credential", "password"))
    return by_name or "private_key" in content or named(content) is not None


def own_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, and the folders that are not searched: links and exports."""
    for path, names, files in os.walk(folder):
        here = Path(path)
        names[:] = sorted(n for n in names if not n.startswith(".") and n != "__pycache__")

        # `Path.is_file` fails in a folder that this user cannot read (3.11).
        def with_file(file: str, here: Path = here, names: list[str] = names) -> set[str]:
            return {name for name in names if os.path.isfile(here / name / file)}

        caches, sweeps, exports = map(with_file, (CACHE_TAG, "sweep.json", PROVENANCE))
        names[:] = [name for name in names if name not in caches]
        if sweeps:
            names[:] = [name for name in names if name not in sweeps]
            if here != folder:  # a storage folder
                names.clear()
                files = [name for name in files if name.endswith(".py")]
        whole = [name for name in names if name in exports or (here / name).is_symlink()]
        names[:] = [name for name in names if name not in exports]
        yield from (here / name for name in whole)
        yield from (
            here / name
            for name in sorted(files)
            if not name.startswith(".") and os.path.isfile(here / name)
        )


def _links(folder: Path, files: list[Path], copied: list[Path]) -> list[Path]:
    """Return what is only linked: files that are not copied, or folders without copied files."""
    with_copies = {parent for file in copied for parent in file.parents}
    there = set(copied)
    found: dict[Path, None] = {}
    for file in files:
        if file not in there:
            inside = [each for each in file.parents if each.is_relative_to(folder)]
            whole = [each for each in (*reversed(inside), file) if each not in with_copies]
            found[whole[0]] = None
    return [each for each in found if each != folder]
