"""Where a sweep's folder cannot be created, that is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.config import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.sweep import run_request
from sweeps.errors import UserError
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
