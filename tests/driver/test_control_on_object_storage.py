"""Exact resume from object storage alone: each process starts in a folder that has nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.config import SweepConfig
from sweeps.driver.requests.finished import Changes
from sweeps.driver.requests.resume_request import make_resumption
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import MARKER
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import refresh, segment_name, segments, upload_checkpoint
from sweeps.records.remote import of
from sweeps.records.upload import Upload
from tests.driver.test_control import Cut, Sweep, decisions, kept
from tests.s3_server import s3_server
from tests.written_record import put_record

ID = "curves-20261123-0741-k3f9"


class RemoteSweep(Sweep):
    """The same sweep on object storage."""

    def __init__(self, folder: Path, uri: str) -> None:
        super().__init__(folder / ID)
        self.folder = SweepFolder(folder / ID, uri)
        put_record(self.folder)
        if of(self.folder).files("events"):
            refresh(self.folder)

    def run(self, cut_at: int | None = None) -> None:
        upload = Upload(self.folder)
        self.observers = (upload.observe,)
        upload.put_definition()
        if self.folder.events_file.exists():
            upload.delete_unknown(self.history)
        try:
            super().run(cut_at)
        finally:
            upload.close()

    def save(self, trial: str, number: int, kind: Any) -> ev.CheckpointSaved:
        saved = super().save(trial, number, kind)
        upload_checkpoint(self.folder, self.folder.path / saved.path)
        return saved


def kept_there(sweep: RemoteSweep) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(of(sweep.folder).files("checkpoints")):
        trial, checkpoint, file = name.split("/")
        if file == MARKER:
            found.setdefault(trial, []).append(checkpoint)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 2], ids=["the log is whole", "its last events were not there"])
def test_a_sweep_goes_on_elsewhere_to_the_same_decisions_and_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
):
    unbroken = Sweep(tmp_path / "unbroken")
    unbroken.run()
    with s3_server(monkeypatch) as uri:
        for i, cut_at in enumerate((9, 14, 23, 17, 37)):
            sweep = RemoteSweep(tmp_path / str(i), uri)
            with pytest.raises(Cut):
                sweep.run(cut_at)
            offset, content = segments(of(sweep.folder))[-1]
            lines = content.splitlines(keepends=True)
            of(sweep.folder).write(segment_name(offset), b"".join(lines[: len(lines) - lost]))
        sweep = RemoteSweep(tmp_path / "last", uri)
        sweep.run()
        assert decisions(sweep) == decisions(unbroken)
        assert kept_there(sweep) == {
            trial: names for trial, names in kept(unbroken).items() if names
        }
        assert b"".join(c for _, c in segments(of(sweep.folder))) == (
            sweep.folder.events_file.read_bytes()
        )


def test_a_sweep_kept_on_object_storage_is_not_resumed_from_the_local_folder_alone(tmp_path: Path):
    folder = SweepFolder(tmp_path / ID)
    folder.path.mkdir()
    put_record(folder, config=SweepConfig(storage="s3://bucket/sweeps"))
    with pytest.raises(UserError) as raised:
        make_resumption(folder, Changes(), storage=str(tmp_path))
    assert str(raised.value) == (
        f"{ID} is stored in s3://bucket/sweeps; use --storage s3://bucket/sweeps"
    )
