"""A sweep's objects on a real S3 server: what is read elsewhere is what was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto.s3.responses import S3Response

from sweeps.errors import SweepError, UserError
from sweeps.records import lease as leases
from sweeps.records import remote, upload
from sweeps.records.checkpoints import finish_checkpoint, is_whole
from sweeps.records.conditional_writes import ConditionalWrites
from sweeps.records.event_log import ConfirmationLog, EventLog, SweepIsRunning
from sweeps.records.events import (
    CheckpointDropped,
    CheckpointSaved,
    ConfirmationStarted,
    SweepStarted,
    TrialSuggested,
)
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History, read_history
from sweeps.records.lease import LEASE, is_running
from sweeps.records.object_storage import (
    all_sweeps,
    fetch_checkpoint,
    fetch_code,
    has_checkpoint,
    open_sweep,
    refresh,
    segments,
    upload_checkpoint,
    upload_own_file,
)
from sweeps.records.readings import note_test_read
from sweeps.records.remote import Remote, of
from sweeps.records.removal import delete_sweep, size_of
from sweeps.records.sweep_record import read_record
from sweeps.records.upload import Upload
from tests.s3_server import s3_server
from tests.written_record import put_record

SWEEP = "curves-20261123-0741-k3f9"
STATE = "checkpoints/t001/checkpoint-8"


@pytest.fixture
def uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(monkeypatch) as uri:
        yield uri


@pytest.fixture
def folder(uri: str, tmp_path: Path) -> SweepFolder:
    """Of a sweep that begins."""
    folder = SweepFolder(tmp_path / "results" / SWEEP, uri)
    folder.logs.mkdir(parents=True)
    put_record(folder)
    (folder.code / "helpers").mkdir(parents=True)
    (folder.code / "curves.py").write_text("SEARCH_SPACE = 1\n")
    (folder.code / "helpers" / "more.py").write_text("MORE = 2\n")
    return folder


def elsewhere(folder: SweepFolder, tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "elsewhere" / "results" / SWEEP, folder.storage)


def suggest(log: EventLog, *numbers: int) -> None:
    for number in numbers:
        log.append(
            TrialSuggested(trial=f"t{number:03}", params={"x": 1}, origin="searcher", seed=0)
        )


def checkpoint(folder: SweepFolder, name: str, weights: str = "weights") -> Path:
    path = folder.path / name
    (path / "adapter").mkdir(parents=True)
    (path / "model.safetensors").write_text(weights)
    (path / "adapter" / "config.json").write_text("{}")
    finish_checkpoint(path, trial="t001", number=4, step=8)
    return path


def saved(name: str) -> CheckpointSaved:
    return CheckpointSaved(trial="t001", number=4, kind="state", path=name, sha256="")


def fails_at(place: str) -> Callable[..., None]:
    own = Remote.delete

    def delete(remote: Remote, name: str = "") -> None:
        if name == place:
            raise SweepError("out of order")
        own(remote, name)

    return delete


def one_upload(folder: SweepFolder, *numbers: int) -> None:
    """What a sweep process leaves that suggests these trials."""
    held = Upload(folder)
    log = EventLog(folder.events_file, (held.observe,))
    held.put_definition()
    suggest(log, *numbers)
    log.close()
    held.close()


def test_a_sweep_is_read_from_another_working_folder_as_it_was_written(
    folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one_upload(folder, 1, 2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert folder.storage is not None
    for name in (SWEEP, "curves"):
        found = open_sweep(folder.storage, name)
        assert found == elsewhere(folder, tmp_path)
        assert found.events_file.read_bytes() == folder.events_file.read_bytes()
        assert read_record(found) == read_record(folder)
    fetch_code(found)
    assert (found.code / "curves.py").read_text() == "SEARCH_SPACE = 1\n"
    assert (found.code / "helpers" / "more.py").read_text() == "MORE = 2\n"
    (found.code / "vocab.bin").symlink_to(tmp_path)
    (found.code / "curves.py").write_text("changed")
    fetch_code(found)
    assert (found.code / "curves.py").read_text() == "SEARCH_SPACE = 1\n"
    assert (found.code / "vocab.bin").is_symlink(), "what is linked is on this machine alone"
    assert not is_running(found)


def test_a_sweep_is_listed_and_deleted_on_the_store_and_here(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    one_upload(folder, 1, 2)
    path = checkpoint(folder, STATE, "x" * 10_000)
    upload_checkpoint(folder, path)
    assert folder.storage is not None
    assert all_sweeps(folder.storage) == [
        SweepFolder(Path("results").resolve() / SWEEP, folder.storage)
    ]
    room = size_of(folder)
    assert room.local == room.stored > 10_000
    held = Upload(folder)
    with pytest.raises(SweepIsRunning):
        delete_sweep(folder)
    held.close()
    assert has_checkpoint(folder, STATE)
    note_test_read(folder, "t001")
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "delete", fails_at("test_reads.jsonl"))
        with pytest.raises(SweepError):
            delete_sweep(folder)
    assert is_running(folder), "the lease goes after all that it guards"
    of(folder).delete(LEASE)
    delete_sweep(folder)
    assert (all_sweeps(folder.storage), of(folder).files("")) == ([], {})
    assert not folder.path.exists()


def test_a_log_of_several_segments_is_joined_in_order(
    folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(upload, "SEGMENT_BYTES", 200)
    one_upload(folder, 1, 2, 3)
    one_upload(folder, 4, 5)
    one_upload(folder, *range(6, 20))
    there = segments(of(folder))
    assert len(there) >= 3
    assert b"".join(content for _, content in there) == folder.events_file.read_bytes()
    other = elsewhere(folder, tmp_path)
    refresh(other)
    assert len(read_history(other.events_file, "m", "max").trials) == 19


def test_a_log_with_a_gap_is_a_fault(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upload, "SEGMENT_BYTES", 200)
    for number in range(1, 7):
        one_upload(folder, number)
    second = sorted(of(folder).files("events"))[1]
    of(folder).delete(f"events/{second}")
    with pytest.raises(
        SweepError, match=r"gap at byte (\d+), .* restore the missing events/0*\1\.jsonl$"
    ):
        segments(of(folder))


def test_a_torn_line_stays_where_it_was_torn(folder: SweepFolder, tmp_path: Path):
    folder.events_file.write_text('{"whole": 1}\n{"tor')
    Upload(folder).close()
    assert segments(of(folder)) == [(0, b'{"whole": 1}\n')]


def test_what_the_storage_never_got_is_kept_and_uploaded_by_the_next_process(folder: SweepFolder):
    one_upload(folder, 1)
    log = EventLog(folder.events_file, ())
    suggest(log, 2)  # by a process that is killed before it uploads
    log.close()
    refresh(folder)
    assert len(read_history(folder.events_file, "m", "max").trials) == 2
    Upload(folder).close()
    assert b"".join(c for _, c in segments(of(folder))) == folder.events_file.read_bytes()


def test_a_sweep_that_went_on_elsewhere_is_read_as_it_stands_there(
    folder: SweepFolder, tmp_path: Path
):
    one_upload(folder, 1)
    log = EventLog(folder.events_file, ())
    suggest(log, 2, 3)
    log.close()
    folder.trackers.mkdir()
    (folder.trackers / "mlflow.json").write_text("{}")
    other = elsewhere(folder, tmp_path)
    refresh(other)
    fetch_code(other)
    one_upload(other, 2)
    with pytest.raises(SweepIsRunning, match="another process has continued"):
        Upload(folder)
    refresh(folder)
    assert folder.events_file.read_bytes() == other.events_file.read_bytes()
    assert not folder.trackers.exists(), "they count bytes of another log"


def test_the_log_of_a_running_sweep_is_never_replaced(folder: SweepFolder):
    one_upload(folder, 1)
    folder.events_file.unlink()
    log = EventLog(folder.events_file, ())
    refresh(folder)
    assert folder.events_file.read_bytes() == b""
    log.close()
    refresh(folder)
    assert folder.events_file.read_bytes() != b""


def test_a_sweep_whose_lease_is_held_is_refused_and_shown_as_running(
    folder: SweepFolder, tmp_path: Path
):
    held = Upload(folder)
    other = elsewhere(folder, tmp_path)
    assert is_running(other)
    with pytest.raises(SweepIsRunning) as raised:
        Upload(other)
    said = str(raised.value)
    assert said.startswith(f"{SWEEP} is running: its lease in {folder.storage} was renewed ")
    assert said.endswith(
        " s ago. If the process that renewed it has died, wait: the lease expires 90 s after its"
        " last renewal"
    )
    held.close()
    assert not is_running(other)
    Upload(other).close()


def lease(folder: SweepFolder, **holder: Any) -> None:
    whole = {"id": "another", "machine": "another", "pid": 1, "started": 1.0, **holder}
    of(folder).write(LEASE, json.dumps(whole).encode())


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_free(folder: SweepFolder):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lease(folder, machine=leases._machine(), pid=gone.pid)
    assert not is_running(folder)
    lease(folder, machine=leases._machine(), pid=os.getpid(), started=1.0)  # the id was used again
    assert not is_running(folder)
    lease(folder, pid=gone.pid)
    assert is_running(folder), "of a process elsewhere, nothing is known"


def test_an_old_lease_is_free(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch):
    lease(folder)
    monkeypatch.setattr(leases, "LEASE_S", -1.0)
    Upload(folder).close()


def stale(folder: SweepFolder) -> None:
    """Leave the lease of a process of this machine that is gone."""
    lease(folder, machine=leases._machine(), pid=os.getpid(), started=1.0)


@pytest.mark.parametrize("before", [lambda _: None, stale], ids=["no lease", "a stale lease"])
def test_of_processes_that_take_a_free_lease_in_the_same_instant_exactly_one_begins(
    folder: SweepFolder, before: Callable[[SweepFolder], None], monkeypatch: pytest.MonkeyPatch
):
    racers, rounds = 3, 3
    together = threading.Barrier(racers)
    age = leases.lease_age

    def all_find_it_free(*args: Any) -> float | None:
        found = age(*args)
        together.wait()
        return found

    def begin(_: int) -> leases.Lease | None:
        try:
            return leases.Lease(folder)
        except SweepIsRunning:
            return None

    monkeypatch.setattr(leases, "lease_age", all_find_it_free)
    with ThreadPoolExecutor(racers) as pool:
        for _ in range(rounds):
            before(folder)
            begun = [held for held in pool.map(begin, range(racers)) if held is not None]
            assert len(begun) == 1
            assert json.loads(of(folder).read(LEASE))["id"] == begun[0]._id
            begun[0].release()


def test_a_lease_whose_write_was_answered_only_at_the_second_try_is_held(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    write = ConditionalWrites.write

    def twice(self: ConditionalWrites, name: str, content: bytes, *, seen: str | None) -> str:
        write(self, name, content, seen=seen)
        return write(self, name, content, seen=seen)  # as boto3 does when the answer is lost

    with monkeypatch.context() as patched:
        patched.setattr(ConditionalWrites, "write", twice)
        held = leases.Lease(folder)
    monkeypatch.setattr(leases.Lease, "due_s", lambda _: 0.0)
    held.renew()
    held.renew()
    assert is_running(folder)


def test_a_lease_that_was_cleared_away_is_written_again(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    held = leases.Lease(folder)
    held.release()
    monkeypatch.setattr(leases.Lease, "due_s", lambda _: 0.0)
    held.renew()
    assert is_running(folder)


def test_a_store_without_conditional_writes_is_refused(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(S3Response, "put_object", lambda _: (501, {}, ""))
    with pytest.raises(UserError, match="the server does not support conditional writes"):
        ConditionalWrites(str(folder.storage), folder.id).write(LEASE, b"", seen=None)


def test_the_options_of_the_uri_name_the_server(folder: SweepFolder, monkeypatch: Any):
    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    storage = f"{folder.storage}?endpoint_override={host}&scheme=http&region=us-east-1"
    writes = ConditionalWrites(storage, folder.id)
    version = writes.write(LEASE, b"{}", seen=None)
    assert writes.version(LEASE) == version
    assert Remote(storage, folder.id).read(LEASE) == b"{}"


def test_where_no_write_is_conditional_the_first_of_two_holders_may_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = SweepFolder(tmp_path / SWEEP, f"file://{tmp_path}/store")
    (tmp_path / "store" / SWEEP).mkdir(parents=True)
    held = leases.Lease(folder)
    lease(folder)
    monkeypatch.setattr(leases.Lease, "due_s", lambda _: 0.0)
    with pytest.raises(SweepIsRunning, match=f"{SWEEP} was resumed by another process"):
        held.renew()


def test_a_sweep_whose_lease_another_process_took_may_not_go_on(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    put = leases.Lease._put

    def overtaken(self: leases.Lease) -> None:
        put(self)
        lease(folder)

    monkeypatch.setattr(leases.Lease, "_put", overtaken)
    monkeypatch.setattr(leases, "FIRST_RENEWAL_S", 0.0)
    held = Upload(folder)
    with pytest.raises(SweepIsRunning, match=f"{SWEEP} was resumed by another process"):
        held.close()
    with pytest.raises(SweepIsRunning):
        held.observe(SweepStarted(sweep=SWEEP))
    assert is_running(folder), "the other's lease stays"


def test_a_storage_that_goes_away_is_a_fault_that_names_where_the_log_is(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    held = Upload(folder)

    def fail(*_: Any) -> None:
        raise SweepError("it does not answer")

    monkeypatch.setattr(upload, "GIVE_UP_S", 0.0)
    monkeypatch.setattr(upload, "RETRY_S", 0.0)
    monkeypatch.setattr(Remote, "write", fail)
    log = EventLog(folder.events_file, ())
    suggest(log, 1)
    log.close()
    with pytest.raises(SweepError) as raised:
        held.close()
    assert str(raised.value) == (
        "gave up uploading the event log after 0 s of failures; only"
        f" {folder.path} has the last events, so resume on this machine; last error:"
        " it does not answer"
    )


@pytest.mark.parametrize(
    ("storage", "problem"),
    [
        ("s3://no-such-bucket/sweeps", "cannot write to --storage {}: s3://no-such-bucket/sweeps/"),
        ("nothing://bucket", "cannot open --storage {}: Unrecognized filesystem type in URI"),
    ],
)
def test_a_storage_that_cannot_be_used_is_the_users_to_fix(
    uri: str, tmp_path: Path, storage: str, problem: str
):
    with pytest.raises(UserError) as raised:
        Upload(SweepFolder(tmp_path / SWEEP, storage))
    assert str(raised.value).startswith(problem.format(storage))


def test_credentials_in_the_uri_go_no_further(
    folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one_upload(folder, 1)
    monkeypatch.chdir(tmp_path)
    found = open_sweep("s3://another-key:another-secret@bucket/sweeps", SWEEP)
    assert found.storage == "s3://bucket/sweeps"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "another-secret"


def test_an_unknown_sweep_is_answered_with_those_there_are(folder: SweepFolder):
    one_upload(folder, 1)
    assert folder.storage is not None
    with pytest.raises(UserError) as raised:
        open_sweep(folder.storage, "bert")
    assert str(raised.value) == f"no sweep named 'bert' in {folder.storage}; available: {SWEEP}"


# Checkpoints.


def test_a_checkpoint_is_read_elsewhere_with_all_its_files(folder: SweepFolder, tmp_path: Path):
    path = checkpoint(folder, STATE)
    upload_checkpoint(folder, path)
    assert is_whole(path), "the sweep's own folder keeps it"
    other = elsewhere(folder, tmp_path)
    assert has_checkpoint(other, STATE)
    fetched = fetch_checkpoint(other, STATE)
    assert is_whole(fetched)
    assert (fetched / "model.safetensors").read_text() == "weights"
    assert (fetched / "adapter" / "config.json").read_text() == "{}"


def test_another_node_keeps_nothing_that_it_uploaded(folder: SweepFolder, tmp_path: Path):
    node = SweepFolder(tmp_path / "node" / SWEEP, folder.storage)
    path = checkpoint(node, STATE)
    upload_checkpoint(node, path)
    assert not path.exists()
    assert has_checkpoint(folder, STATE)


def test_a_half_uploaded_checkpoint_is_none(folder: SweepFolder, tmp_path: Path):
    of(folder).write(f"{STATE}/model.safetensors", b"wei")
    other = elsewhere(folder, tmp_path)
    assert not has_checkpoint(other, STATE)
    assert not is_whole(fetch_checkpoint(other, STATE))


def test_what_other_ranks_wrote_comes_to_a_node_that_has_the_rest(
    folder: SweepFolder, tmp_path: Path
):
    node = SweepFolder(tmp_path / "node" / SWEEP, folder.storage)
    own = node.path / STATE / "rng_state_1.pth"
    own.parent.mkdir(parents=True)
    own.write_text("of rank 1")
    upload_own_file(node, own)
    upload_checkpoint(folder, checkpoint(folder, STATE))
    assert (fetch_checkpoint(folder, STATE) / "rng_state_1.pth").read_text() == "of rank 1"


def test_a_checkpoint_that_was_made_again_elsewhere_replaces_the_one_here(
    folder: SweepFolder, tmp_path: Path
):
    upload_checkpoint(folder, checkpoint(folder, STATE, "old"))
    other = elsewhere(folder, tmp_path)
    upload_checkpoint(other, checkpoint(other, STATE, "new"))
    assert (fetch_checkpoint(folder, STATE) / "model.safetensors").read_text() == "new"


def test_a_dropped_checkpoint_goes_once_the_log_says_so(folder: SweepFolder):
    other = "checkpoints/t001/best-4"
    for name in (STATE, other):
        upload_checkpoint(folder, checkpoint(folder, name))
    held = Upload(folder)
    log = EventLog(folder.events_file, (held.observe,))
    for name in (STATE, other):
        log.append(CheckpointDropped(trial="t001", kind="state", path=name))
    log.append(saved(other))  # made again
    log.close()
    held.close()
    assert not has_checkpoint(folder, STATE)
    assert b"CheckpointDropped" in segments(of(folder))[0][1]


def test_a_checkpoint_that_no_event_speaks_of_is_deleted(folder: SweepFolder):
    history = History("eval_score", "max")
    held = Upload(folder)
    log = EventLog(folder.events_file, (history.apply, held.observe))
    suggest(log, 1)
    log.append(saved(STATE))
    of_run, dropped = "checkpoints/c001/best-8", "checkpoints/c001/best-4"
    log.append(ConfirmationStarted(arms=["t001"], baseline="t001", seeds=[1]))
    confirming = ConfirmationLog(log)
    confirming.append(TrialSuggested(trial="c001", params={"x": 1}, origin="searcher", seed=0))
    confirming.append(replace(saved(of_run), trial="c001", kind="best"))
    unknown = ("checkpoints/t001/checkpoint-12", "checkpoints/t002/best-2")
    for name in (STATE, of_run, dropped, *unknown):
        upload_checkpoint(folder, checkpoint(folder, name))
    held.delete_unknown(history)
    there = {name.rpartition("/")[0] for name in of(folder).files("checkpoints")}
    assert {name.removesuffix("/adapter") for name in there} == {
        name.removeprefix("checkpoints/") for name in (STATE, of_run)
    }
    confirming.append(CheckpointDropped(trial="c001", kind="best", path=of_run))
    log.close()
    held.close()
    assert not has_checkpoint(folder, of_run)


def test_a_storage_that_fails_for_long_is_the_users_to_fix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.0)
    tries = []

    def fail() -> None:
        tries.append(1)
        raise SweepError("it does not answer")

    with pytest.raises(UserError) as raised:
        remote.patiently(fail)
    assert str(raised.value) == (
        "object storage kept failing for 0 s; try again once it works; last error: it does"
        " not answer"
    )


def test_a_storage_that_fails_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "RETRY_S", 0.0)
    answers = iter([SweepError("it does not answer"), "there"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, SweepError):
            raise answer
        return answer

    assert remote.patiently(ask) == "there"
