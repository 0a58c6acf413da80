"""The objects of one sweep on object storage: read, written, listed and deleted by pyarrow.

Used by the sweep process, by workers and by every reader. It must not know what the objects mean.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sweeps.durable import written_aside
from sweeps.errors import SweepError, UserError
from sweeps.records.folder import SweepFolder

CHUNK_BYTES = 2**23
GIVE_UP_S = 120.0
"""Seconds of failures after which `patiently` gives up."""
RETRY_S = 5.0
"""Seconds between two attempts."""

Result = TypeVar("Result")


class StorageFailed(UserError):
    """Object storage failed until retries ran out."""


class NotThere(SweepError):
    """There is no such object."""


class Remote:
    """The objects of one sweep, or of all sweeps without a sweep id.

    Args:
        storage: The URI, without credentials.
        sweep: The sweep's id.

    Raises:
        UserError: The storage cannot be opened.
    """

    def __init__(self, storage: str, sweep: str = "") -> None:
        self.uri = f"{storage.rstrip('/')}/{sweep}".rstrip("/")
        self._fs, root = open_storage(storage)
        self._root = f"{root}/{sweep}".rstrip("/")

    def read(self, name: str) -> bytes:
        """Return the content of an object.

        Raises:
            NotThere: There is no such object.
        """
        with self._faults(), self._fs.open_input_stream(f"{self._root}/{name}") as source:
            content: bytes = source.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Create or replace an object, atomically."""
        with self._faults(), self._fs.open_output_stream(f"{self._root}/{name}") as target:
            target.write(content)

    def upload(self, file: Path, name: str) -> None:
        """Upload a file as an object."""
        path = f"{self._root}/{name}"
        with self._faults(), file.open("rb") as source, self._fs.open_output_stream(path) as target:
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def download(self, name: str, file: Path) -> None:
        """Download an object to a file; after a kill, the old file or no file is there."""
        file.parent.mkdir(parents=True, exist_ok=True)
        path = f"{self._root}/{name}"
        with (
            written_aside(file) as aside,
            self._faults(),
            self._fs.open_input_stream(path) as source,
            aside.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def files(self, folder: str) -> dict[str, Any]:
        """Return pyarrow's file info of each object below a folder, by its path in the folder."""
        from pyarrow.fs import FileSelector, FileType

        base = f"{self._root}/{folder}".rstrip("/")
        with self._faults():
            found = self._fs.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
        return {
            info.path.removeprefix(f"{base}/"): info for info in found if info.type == FileType.File
        }

    def folders(self) -> list[str]:
        """Return the names of the folders."""
        from pyarrow.fs import FileSelector, FileType

        with self._faults():
            found = self._fs.get_file_info(FileSelector(self._root, allow_not_found=True))
        return [info.base_name for info in found if info.type == FileType.Directory]

    def changed(self, *names: str) -> list[float | None]:
        """Return the Unix time of each object's last write by the store's clock, or None."""
        with self._faults():
            found = self._fs.get_file_info([f"{self._root}/{name}" for name in names])
        return [info.mtime.timestamp() if info.mtime else None for info in found]

    def delete(self, name: str = "") -> None:
        """Delete an object, or a folder with its content; a missing one is ignored."""
        from pyarrow.fs import FileType

        path = f"{self._root}/{name}".rstrip("/")
        with suppress(NotThere), self._faults():
            if self._fs.get_file_info(path).type == FileType.Directory:
                self._fs.delete_dir(path)
            else:
                self._fs.delete_file(path)

    def clock(self) -> float:
        """Return the store's Unix time, by writing an object and reading its time."""
        probe = f".probe-{uuid.uuid4().hex}"
        self.write(probe, b"")
        [now] = self.changed(probe)
        self.delete(probe)
        assert now is not None
        return now

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn pyarrow's errors into ours, which include the URI."""
        import pyarrow

        try:
            yield
        except FileNotFoundError as error:
            raise NotThere(f"{self.uri}: {error}") from error
        except (OSError, pyarrow.ArrowException) as error:
            raise SweepError(f"{self.uri}: {error}") from error


def of(folder: SweepFolder) -> Remote:
    """Return the objects of a sweep that is kept on object storage."""
    assert folder.storage is not None
    return Remote(folder.storage, folder.id)


@lru_cache
def open_storage(storage: str) -> tuple[Any, str]:
    """Return pyarrow's file system for a URI, and the path in it.

    Raises:
        UserError: The storage cannot be opened.
    """
    import pyarrow
    from pyarrow.fs import FileSystem

    try:
        fs, root = FileSystem.from_uri(storage)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"cannot open --storage {storage}: {error}") from None
    return fs, root.rstrip("/")


def patiently(do: Callable[[], Result]) -> Result:
    """Return the result of a call, retrying it while the storage fails.

    Raises:
        StorageFailed: The storage failed for `GIVE_UP_S`.
    """
    tries = Retrying(
        retry=retry_if_exception_type(SweepError),
        stop=stop_after_delay(GIVE_UP_S),
        wait=wait_fixed(RETRY_S),
        reraise=True,
    )
    try:
        return tries(do)
    except SweepError as error:
        raise StorageFailed(
            f"object storage kept failing for {GIVE_UP_S:.0f} s; try again once it works; last"
            f" error: {error}"
        ) from error
