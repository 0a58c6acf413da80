"""Keeps prepared data in files that are created once, completely or not at all.

The sweep process creates them before the first trial. If a worker does not find them (a setting is
tuned over a range, or its node has its own disk), it creates them at first use, one process at a
time. All processes map them into memory. It must not know about tasks, models or trials.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.durable import make_cache, put_in_place

if TYPE_CHECKING:
    from datasets import Dataset

MARKER = "prepared.json"
"""Written last: a folder without it is incomplete. Contains what the data was made from, and
`facts`."""
FORMAT = 3
"""Increased whenever the same settings produce different files."""
VERSIONS = ("datasets", "tokenizers", "transformers")
"""Libraries whose code prepares rows."""
ROWS_AT_ONCE = 1000
PROGRESS_EVERY_S = 5.0
PATIENCE_S = 2.0
"""Seconds to wait for another process before a line says so."""

Batch = Mapping[str, list[Any]]
Tell = Callable[[str], None]
Advance = Callable[[str, int, int], None]
"""Called with the name of what is prepared, the number of rows done, and the total."""

_folder: ContextVar[Path | None] = ContextVar("_folder", default=None)
_tell: ContextVar[Tell | None] = ContextVar("_tell", default=None)
_advance: ContextVar[Advance | None] = ContextVar("_advance", default=None)
_notes: ContextVar[set[str] | None] = ContextVar("_notes", default=None)


@contextmanager
def prepared_in(
    folder: Path, tell: Tell | None = None, advance: Advance | None = None
) -> Iterator[None]:
    """Within the context, keep prepared data in `folder`.

    Outside it goes to the cache of `datasets`.

    Args:
        folder: Created if it is missing.
        tell: Called with lines about progress while files are created, and with notes on the data.
        advance: Called for each batch, in place of the lines about progress.
    """
    before = _folder.set(folder), _tell.set(tell), _advance.set(advance), _notes.set(set())
    try:
        yield
    finally:
        _folder.reset(before[0])
        _tell.reset(before[1])
        _advance.reset(before[2])
        _notes.reset(before[3])


def prepared_folder(
    settings: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]
) -> tuple[Path, dict[str, Any]]:
    """Return the folder of files for these settings, and the facts that `make` returned.

    Args:
        settings: Everything that the files depend on, the same in every process; plain JSON.
        make: Called if there is no complete folder yet: writes files into the folder it receives,
            and returns facts about them as plain JSON. If it raises, nothing is left behind.
    """
    made_of = {
        **settings,
        "format": FORMAT,
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
    folder = _root() / key
    if not (folder / MARKER).is_file():
        _make_once(folder, made_of, make)
    facts: dict[str, Any] = json.loads((folder / MARKER).read_text())["facts"]
    return folder, facts


def write_rows(file: Path, table: Dataset, make: Callable[[Batch], Batch | None]) -> int:
    """Write new rows made from a table, batch by batch, and report the progress.

    Args:
        file: An Arrow file that `datasets.Dataset.from_file` maps into memory.
        table: The original rows.
        make: Returns the new rows for a batch; None if there are none.

    Returns:
        The number of rows written.
    """
    from datasets.arrow_writer import ArrowWriter

    written = 0
    with ArrowWriter(path=str(file)) as writer:
        last = time.monotonic()
        for start in range(0, len(table), ROWS_AT_ONCE):
            rows = make(table[start : start + ROWS_AT_ONCE])
            if rows is not None:
                writer.write_batch(dict(rows))
                written += len(next(iter(rows.values())))
            if advance := _advance.get():
                advance(file.stem, min(start + ROWS_AT_ONCE, len(table)), len(table))
            elif time.monotonic() - last > PROGRESS_EVERY_S:
                last = time.monotonic()
                say(f"preparing {file.stem} data: {start / len(table):.0%} of {len(table):,} rows")
        if written:
            writer.finalize()
    return written


def map_rows(file: Path) -> Dataset:
    """Return the rows of a file that `write_rows` wrote, mapped into memory."""
    from datasets import Dataset

    mapped: Dataset = Dataset.from_file(str(file))
    return mapped


def _make_once(
    folder: Path, made_of: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]
) -> None:
    make_cache(folder.parent)
    with _locked(folder.with_suffix(".lock")):
        if (folder / MARKER).is_file():
            return  # another process was faster
        say("preparing the data")
        started = time.monotonic()
        partial = folder.with_suffix(".partial")
        for remains in (partial, folder):  # left by a process that was killed
            shutil.rmtree(remains, ignore_errors=True)
        partial.mkdir()
        try:
            with _without_bars():
                facts = make(partial)
            marker = {"made_of": made_of, "facts": facts}
            (partial / MARKER).write_text(json.dumps(marker, indent=2))
            put_in_place(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        say(f"prepared the data in {time.monotonic() - started:.1f} s: {folder}")


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock within the context; say so if another process holds it for long."""
    from filelock import FileLock, Timeout

    lock = FileLock(file)
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        say(f"waiting for another process that is preparing the same data and has locked {file}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets`, which would be drawn over the sweep's table."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _root() -> Path:
    if (folder := _folder.get()) is not None:
        return folder
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "sweeps"


def say(line: str) -> None:
    """Pass a line to whoever is waiting for the data."""
    if tell := _tell.get():
        tell(line)


def note(line: str) -> None:
    """Pass on a line about the data, but only once within `prepared_in`."""
    if (notes := _notes.get()) is not None and line not in notes:
        notes.add(line)
        say(line)
