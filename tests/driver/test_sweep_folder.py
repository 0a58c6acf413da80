"""A sweep's folder before anything starts: it cannot be created, or the other verbs know it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sweeps.answer.results import read_results
from sweeps.config import SweepConfig
from sweeps.driver import sweep
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.sweep import run_request
from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import all_sweeps
from sweeps.records.removal import delete_sweep
from tests.conftest import SPACES


@pytest.mark.parametrize(
    ("place", "why"), [("a file/results", "Not a directory"), ("/proc/results", "No such file")]
)
def test_a_storage_that_cannot_be_written_is_one_line(
    place: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a file").touch()
    storage = tmp_path / place
    request = make_request(str(SPACES / "curves.py"), SweepConfig(storage=storage, trackers=()))
    with pytest.raises(UserError) as told:
        run_request(request, [])
    assert str(told.value).startswith(f"cannot create {storage}/curves-")
    assert f" ({why}" in str(told.value)
    assert str(told.value).endswith("); choose another folder with --storage")


def test_a_sweep_that_does_not_fit_on_the_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_record(folder: SweepFolder, _: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.record_file))

    monkeypatch.setattr(sweep, "write_record", write_record)
    request = make_request(str(SPACES / "curves.py"), SweepConfig(storage=tmp_path, trackers=()))
    with pytest.raises(UserError, match=r"cannot create .* \(No space left on device\)"):
        run_request(request, [])
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_is_killed_before_its_first_event_is_known_and_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: object) -> None:
        [folder] = all_sweeps(tmp_path)
        assert read_results(folder).status == "interrupted"
        delete_sweep(folder)
        assert all_sweeps(tmp_path) == []

    monkeypatch.setattr(sweep, "_run", look)
    config = SweepConfig(storage=str(tmp_path), trackers=())
    run_request(make_request(str(SPACES / "curves.py"), config), [])
