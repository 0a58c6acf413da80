"""How much space a sweep uses, and how it is deleted.

Runs in the verbs `list --sweeps` and `delete`. It must not know trackers: the caller checks them
first.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import dataclass

from sweeps.errors import SweepError
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.lease import LEASE, Lease
from sweeps.records.object_storage import RECORD
from sweeps.records.remote import Remote, of


@dataclass(frozen=True, kw_only=True)
class SweepSize:
    """The bytes of a sweep."""

    local: int
    """On this machine's disk, each file counted once."""
    shared: int
    """The part of `local` in files that are also linked from outside the folder, by MLflow's logged
    model."""
    stored: int
    """Bytes on object storage."""

    @property
    def total(self) -> int:
        """All bytes, on disk and on object storage."""
        return self.local + self.stored

    @property
    def freed(self) -> int:
        """The bytes that a deletion frees."""
        return self.total - self.shared


def size_of(folder: SweepFolder) -> SweepSize:
    """Return how much space a sweep uses."""
    files: dict[tuple[int, int], tuple[os.stat_result, int]] = {}
    for parent, _, names in os.walk(folder.path):
        for name in names:
            try:
                found = os.lstat(os.path.join(parent, name))
            except FileNotFoundError:  # a running sweep has deleted it
                continue
            key = found.st_dev, found.st_ino
            files[key] = found, files.get(key, (found, 0))[1] + 1
    stored = of(folder).files("").values() if folder.storage is not None else ()
    return SweepSize(
        local=sum(found.st_size for found, _ in files.values()),
        shared=sum(found.st_size for found, here in files.values() if found.st_nlink > here),
        stored=sum(info.size for info in stored),
    )


def delete_sweep(folder: SweepFolder) -> None:
    """Delete a sweep on disk and on object storage.

    The files that identify the sweep go last, so an interrupted deletion can be repeated.

    Raises:
        SweepIsRunning: A process is running the sweep.
        SweepError: Something cannot be deleted.
    """
    try:
        with closing(EventLog(folder.events_file, ())):
            if folder.storage is not None:
                Lease(folder)  # deleted after everything it protects
                _delete_objects(of(folder))
            _delete_files(folder)
    except OSError as error:
        raise SweepError(
            f"cannot delete {folder.id}: {error}; some of its files may be gone already. Fix that,"
            " then delete it again"
        ) from None


def _delete_objects(remote: Remote) -> None:
    places = {name.split("/")[0] for name in remote.files("")} - {LEASE, RECORD}
    for place in (*sorted(places), LEASE):
        remote.delete(place)
    remote.delete()


def _delete_files(folder: SweepFolder) -> None:
    for path in folder.path.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path not in (folder.events_file, folder.record_file):
            path.unlink()
    shutil.rmtree(folder.path)
