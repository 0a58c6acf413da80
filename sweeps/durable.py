"""Files and folders that are whole or absent: write aside, flush to disk, rename.

Used in every process that writes something for another one to read. It must not know what is
written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sweeps.errors import UserError

CACHE_TAG = "CACHEDIR.TAG"
"""Marks a folder whose content can be regenerated (https://bford.info/cachedir)."""
NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of a disk or quota that is full, or a disk that is read-only."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file; after a kill or a power failure, either the old or the new file is there.

    Raises:
        OSError: The file cannot be written; the old one is still there, and nothing else.
    """
    with written_aside(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield where to write a file that replaces `path` at the end, unless that fails.

    Raises:
        OSError: The file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        put_in_place(aside, path)
    except OSError as error:
        if error.errno is None:
            raise
        # A full disk is met in the middle of a file, where Python does not know its name. The name
        # of `aside` would differ in each process.
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def put_in_place(aside: Path, path: Path) -> None:
    """Flush a file, or a folder with all files in it, and rename it.

    Args:
        aside: A file or folder next to `path`, so on the same file system.
        path: An existing file is replaced; a folder must not exist yet.
    """
    if aside.is_dir():
        for inner in aside.rglob("*"):
            flush(inner)
    flush(aside)
    aside.replace(path)
    flush(path.parent)


def cannot_create(folder: Path, error: OSError) -> UserError:
    """Return the error for a folder in the storage folder that cannot be created."""
    return UserError(
        f"cannot create {folder} ({error.strerror}); choose another folder with --storage"
    )


def cannot_write(error: OSError) -> UserError | None:
    """Return the error for a disk that is full or read-only; None if that is not the cause."""
    if error.errno not in NOT_WRITABLE:
        return None
    file = error.filename2 or error.filename or "a disk"  # of a copy, the second is written
    return UserError(
        f"cannot write to {file} ({os.strerror(error.errno)}). Once it can be"
        " written again, run the same command again"
    )


def make_cache(folder: Path) -> None:
    """Create a folder for what can be regenerated; backups and copies of code leave it out.

    Raises:
        UserError: The folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tag = folder / CACHE_TAG
        if not tag.exists():
            write_whole(tag, "Signature: 8a477f597d28d172789f06886806bc55\n")
    except OSError as error:
        raise cannot_create(folder, error) from None


def follow_umask(folder: Path) -> None:
    """Give all files in a folder the mode of a new file: safetensors lets only the owner read."""
    probe = folder / f".mode.{os.getpid()}"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_mode != mode:
            file.chmod(mode)


def flush(path: Path) -> None:
    """Flush a file, or the list of names in a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
