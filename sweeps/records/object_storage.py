"""A sweep on object storage: record, code, log and complete checkpoints, beside the local folder.

Used by the sweep process, by workers and by every reader, wherever they run. It must not know when
something is written: `upload.py` and the gate decide that.

Below the URI of `--storage` each sweep has `sweep.json`, `code/`, `checkpoints/`, `lease.json` and
`events/`: segments of the log, each named by the offset of its first byte.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.config import is_uri, storage_folder
from sweeps.durable import write_whole
from sweeps.errors import SweepError
from sweeps.records.checkpoints import MARKER, is_whole
from sweeps.records.event_log import is_held
from sweeps.records.folder import SWEEP_ID, SweepFolder, choose_sweep, find_sweep, sweeps_in
from sweeps.records.remote import Remote, of, patiently
from sweeps.secrets import take_credentials
from sweeps.space.code_copy import is_copy

SEGMENTS = "events"
RECORD = "sweep.json"

# How readers find a sweep.


def open_sweep(storage: str | Path, name: str) -> SweepFolder:
    """Return the sweep with this id, or a space's latest, with its newest record and log.

    Args:
        storage: A folder, or a URI. For a URI, the sweep's local folder is brought up to date.
        name: A sweep id, or a space's name.

    Raises:
        UserError: There is no such sweep, or the storage cannot be read.
    """
    if not is_uri(storage):
        return find_sweep(storage_folder(storage), name)
    uri = take_credentials(str(storage))
    folder = SweepFolder(storage_folder(uri) / choose_sweep(_ids_in(uri), name, uri), uri)
    refresh(folder)
    return folder


def all_sweeps(storage: str | Path) -> list[SweepFolder]:
    """Return the sweeps in a folder or on object storage, the latest last, without reading them.

    Raises:
        UserError: The storage cannot be read.
    """
    if not is_uri(storage):
        place = storage_folder(storage)
        return [SweepFolder(place / each) for each in sweeps_in(place)]
    uri = take_credentials(str(storage))
    return [SweepFolder(storage_folder(uri) / each, uri) for each in _ids_in(uri)]


def _ids_in(uri: str) -> list[str]:
    """Return the ids of the sweeps on object storage, the latest last."""
    place = Remote(uri)
    ids = [each for each in place.folders() if SWEEP_ID.fullmatch(each)]
    times = place.changed(*(f"{each}/{RECORD}" for each in ids)) if ids else []
    began = sorted((at, each) for at, each in zip(times, ids, strict=True) if at is not None)
    return [each for _, each in began]


def refresh(folder: SweepFolder) -> None:
    """Update a sweep's local record and log from the storage, unless a process here runs the sweep.

    A local log that continues the stored one is kept.
    """
    if folder.storage is None or (folder.events_file.exists() and is_held(folder.events_file)):
        return
    remote = of(folder)
    folder.logs.mkdir(parents=True, exist_ok=True)
    remote.download(RECORD, folder.record_file)
    there = b"".join(content for _, content in segments(remote))
    here = folder.events_file.read_bytes() if folder.events_file.exists() else b""
    if here.startswith(there) and folder.events_file.exists():
        return  # the end of the local log may not have been uploaded
    if not there.startswith(here):  # another process continued; trackers count bytes of this log
        shutil.rmtree(folder.trackers, ignore_errors=True)
    write_whole(folder.events_file, there)


def segments(remote: Remote) -> list[tuple[int, bytes]]:
    """Return the segments of the log in order, each with the offset of its first byte.

    Raises:
        SweepError: A segment is missing.
    """
    found: list[tuple[int, bytes]] = []
    end = 0
    for name in sorted(remote.files(SEGMENTS)):
        offset, content = int(Path(name).stem), remote.read(f"{SEGMENTS}/{name}")
        if offset != end:
            raise SweepError(
                f"{remote.uri}: the event log has a gap at byte {end}, so the sweep cannot be read;"
                f" restore the missing {segment_name(end)}"
            )
        found.append((offset, content))
        end += len(content)
    return found


def segment_name(offset: int) -> str:
    """Return the name of the segment that starts at this byte of the log."""
    return f"{SEGMENTS}/{offset:015}.jsonl"


def fetch_code(folder: SweepFolder) -> None:
    """Download the sweep's copy of its code; links to files of this machine stay."""
    if folder.storage is None:
        return
    remote = of(folder)
    folder.code.mkdir(parents=True, exist_ok=True)
    for file in list(folder.code.rglob("*")):
        if is_copy(file):
            file.unlink()
    for name in remote.files("code"):
        remote.download(f"code/{name}", folder.code / name)


# Checkpoints.


def has_checkpoint(folder: SweepFolder, name: str) -> bool:
    """Tell whether a checkpoint is complete where all workers read it.

    Args:
        folder: The sweep's folder.
        name: The checkpoint's path in that folder.
    """
    if folder.storage is None:
        return is_whole(folder.path / name)
    return patiently(lambda: of(folder).changed(f"{name}/{MARKER}")) != [None]


def fetch_checkpoint(folder: SweepFolder, name: str) -> Path:
    """Return the local path of a checkpoint, downloaded if the stored one is complete.

    Raises:
        UserError: The storage failed until retries ran out.
    """
    path = folder.path / name
    if folder.storage is not None:
        remote = of(folder)
        patiently(lambda: _fetch(remote, name, path))
    return path


def _fetch(remote: Remote, name: str, path: Path) -> None:
    files = remote.files(name)
    if files.pop(MARKER, None) is None:
        return
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):  # one rank fetches for its whole node
        marker = remote.read(f"{name}/{MARKER}")
        same = is_whole(path) and (path / MARKER).read_bytes() == marker
        if not same:
            (path / MARKER).unlink(missing_ok=True)
        for file in files:
            if not (same and (path / file).is_file()):  # a file of another rank may be missing
                remote.download(f"{name}/{file}", path / file)
        if not same:
            remote.download(f"{name}/{MARKER}", path / MARKER)


def upload_own_file(folder: SweepFolder, file: Path) -> None:
    """Upload a checkpoint file of a rank other than 0, which rank 0 may not see.

    Only the sweep's own machine keeps a copy.
    """
    if folder.storage is not None and file.is_file():
        name = file.relative_to(folder.path).as_posix()
        patiently(lambda: of(folder).upload(file, name))
        free_elsewhere(folder, file)


def upload_checkpoint(
    folder: SweepFolder, path: Path, uploaded: Collection[Path] = frozenset()
) -> None:
    """Upload a complete checkpoint, its end marker last; only the sweep's own machine keeps a copy.

    Args:
        folder: The sweep's folder.
        path: The checkpoint.
        uploaded: Files that other ranks have uploaded.

    Raises:
        UserError: The storage failed until retries ran out.
    """
    if folder.storage is None:
        return
    remote, name = of(folder), path.relative_to(folder.path).as_posix()

    def upload() -> None:
        remote.delete(f"{name}/{MARKER}")  # left by an interrupted attempt
        for file in sorted(path.rglob("*")):
            if file.is_file() and file != path / MARKER and file not in uploaded:
                remote.upload(file, f"{name}/{file.relative_to(path).as_posix()}")
        remote.upload(path / MARKER, f"{name}/{MARKER}")

    patiently(upload)
    free_elsewhere(folder, path)


def free_elsewhere(folder: SweepFolder, path: Path) -> None:
    """Delete a local checkpoint, or a file of one, outside the sweep's folder.

    Nothing else would delete it.
    """
    if folder.storage is None or folder.record_file.is_file():
        return
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
