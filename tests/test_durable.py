"""Files that are whole or absent, also on a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from sweeps import durable
from sweeps.durable import cannot_write, make_cache, write_whole
from sweeps.errors import UserError


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is written only in part."""

    def write_bytes(path: Path, content: bytes) -> Any:
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable.Path, "write_bytes", write_bytes)


@pytest.mark.usefixtures("full")
def test_a_file_that_does_not_fit_on_the_disk_leaves_the_old_one_and_nothing_else(tmp_path: Path):
    file = tmp_path / "sweep.json"
    file.write_text("old")
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_whole(file, "the new content")
    assert raised.value.filename == str(file)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]
    assert file.read_text() == "old"


@pytest.mark.usefixtures("full")
def test_a_cache_that_does_not_fit_on_the_disk_is_one_line(tmp_path: Path):
    cache = tmp_path / "prepared"
    with pytest.raises(UserError) as told:
        make_cache(cache)
    assert str(told.value) == (
        f"cannot create {cache} (No space left on device); choose another folder with --storage"
    )
    assert list(cache.iterdir()) == []


def test_only_a_disk_that_is_full_or_read_only_is_said_in_one_line():
    read_only = OSError(errno.EROFS, os.strerror(errno.EROFS), "/data/logs/sweep.log")
    assert str(cannot_write(read_only)) == (
        "cannot write to /data/logs/sweep.log (Read-only file system). Once it can be written"
        " again, run the same command again"
    )
    copied = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "space.py", None, "code/space.py")
    assert str(cannot_write(copied)).startswith("cannot write to code/space.py (")
    # As pyarrow says it, without a name.
    nameless = OSError(
        errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left"
    )
    said = str(cannot_write(nameless))
    assert said.startswith("cannot write to a disk (No space left on device)")
    assert cannot_write(FileNotFoundError(errno.ENOENT, "No such file", "data.csv")) is None
