"""What a worker says of a job that raises."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerCallback

from sweeps.errors import SweepError
from sweeps.records.folder import SweepFolder
from sweeps.space.arguments import Devices
from sweeps.space.loading import LoadedSpace
from sweeps.workers import worker_loop
from sweeps.workers.failures.raised_errors import in_one_line
from sweeps.workers.job import Definition, Job
from sweeps.workers.messages import JobError
from sweeps.workers.pickled_space import pickled
from sweeps.workers.signals import Signals
from tests.workers.own_trainers import PARAMS, builder, space_of


def worker(exchange: Any, definition: Any, code: Path, isolated: Any) -> worker_loop._Worker:
    """Rank 0 of group 1."""
    return worker_loop._Worker(
        exchange=exchange,
        group=1,
        rank=0,
        definition=definition,
        code=code,
        devices=Devices(workers=1, gpu=False, bf16=False),
        isolated=isolated,
    )


class Exits(TrainerCallback):
    def on_step_end(self, *_: Any, **__: Any) -> None:
        sys.exit(1)  # HERE


def test_a_process_that_the_users_code_ends_is_an_error_of_the_job_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[JobError] = []
    exchange: Any = SimpleNamespace(
        failed=SimpleNamespace(remote=lambda group, error: told.append(error))
    )
    monkeypatch.setattr(worker_loop.ray, "get", lambda answer: answer)
    space = space_of(builder(callbacks=[Exits]))
    loaded = LoadedSpace(space=space, name="inline", file=None, root=tmp_path, folder=None)
    definition = Definition(
        space=pickled(loaded, space),
        folder=SweepFolder(tmp_path),
        workers=1,
        gpu=False,
        measures_gpu=False,
        fresh_workers=False,
        started_in=Path.cwd(),
        stall_timeout_s=60,
        secrets={},
    )
    isolated: Any = SimpleNamespace(begin_job=lambda: None, fits=lambda _: True)
    job = Job(trial="t001", attempt=1, params=PARAMS, seed=0, checkpoint=None)
    with pytest.raises(SweepError, match="ends the process"):
        worker(exchange, definition, tmp_path, isolated).run(job, Signals())
    (error,) = told
    lines = Path(__file__).read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "# HERE" in text)
    assert f"{Path(__file__).name}: line {line}: sys.exit(1)" in error.message
    assert "ends the process (SystemExit(1)); raise an error that explains" in error.message
    assert "on_step_end" in error.traceback
    assert not error.fixable, "other params may not come there"


def test_a_job_writes_to_the_log_although_an_earlier_one_has_redirected_the_output(
    tmp_path: Path,
):
    log, elsewhere = tmp_path / "logs" / "log", tmp_path / "elsewhere"
    own = [os.dup(number) for number in (1, 2)]
    try:
        for job in range(2):
            worker_loop._write_to(log)
            for number in (1, 2):
                os.write(number, f"{job} on {number}\n".encode())
                other = os.open(elsewhere, os.O_WRONLY | os.O_CREAT)
                os.dup2(other, number)
                os.close(other)
    finally:
        for number, before in enumerate(own, 1):
            os.dup2(before, number)
            os.close(before)
    assert log.read_text() == "0 on 1\n0 on 2\n1 on 1\n1 on 2\n"
    assert elsewhere.read_text() == ""


@pytest.mark.parametrize("fresh", [True, False])
def test_code_that_cannot_be_imported_a_second_time_gets_another_process(
    fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A registry may refuse what it has already."""

    def opened(*_: Any) -> None:
        raise ValueError("resolver 'mine' is already registered")

    told: list[JobError] = []
    exchange: Any = SimpleNamespace(
        failed=SimpleNamespace(remote=lambda group, error: told.append(error))
    )
    monkeypatch.setattr(worker_loop.ray, "get", lambda answer: answer)
    monkeypatch.setattr(worker_loop, "opened", opened)
    definition: Any = SimpleNamespace(space=b"", started_in=tmp_path)
    isolated: Any = SimpleNamespace(begin_job=lambda: None, is_fresh=fresh)
    job = Job(trial="t001", attempt=1, params=PARAMS, seed=0, checkpoint=None)
    signals = Signals()

    def run() -> None:
        worker(exchange, definition, tmp_path, isolated).run(job, signals)

    if fresh:
        with pytest.raises(SweepError, match="already registered"):
            run()
        assert len(told) == 1
    else:
        run()
        assert (signals.left_by, told) == ("misplaced", [])


def test_what_an_error_says_can_be_written_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A lone surrogate stands for a byte that is not UTF-8, for example in the name of a file."""

    def opened(*_: Any) -> None:
        raise ValueError("bad \udc80")

    told: list[JobError] = []
    exchange: Any = SimpleNamespace(
        failed=SimpleNamespace(remote=lambda group, error: told.append(error))
    )
    monkeypatch.setattr(worker_loop.ray, "get", lambda answer: answer)
    monkeypatch.setattr(worker_loop, "opened", opened)
    definition: Any = SimpleNamespace(space=b"", started_in=tmp_path)
    isolated: Any = SimpleNamespace(begin_job=lambda: None, is_fresh=True)
    job = Job(trial="t001", attempt=1, params=PARAMS, seed=0, checkpoint=None)
    with pytest.raises(SweepError, match=r"bad \\udc80"):
        worker(exchange, definition, tmp_path, isolated).run(job, Signals())
    (error,) = told
    assert error.message == r"ValueError: bad \udc80"
    assert error.traceback.endswith("ValueError: bad \\udc80\n")
    assert caplog.messages == [error.traceback]


@pytest.mark.parametrize("imported", [True, False])
def test_all_ranks_leave_a_job_if_one_of_them_cannot_import_the_code_again(
    imported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise, the others would wait for it in their first collective call."""

    def opened(*_: Any) -> object:
        if imported:
            return object()
        raise ValueError("resolver 'mine' is already registered")

    said: list[bool] = []

    def of_two_ranks(own: bool) -> list[bool]:
        said.append(own)
        return [own, not own]

    monkeypatch.setattr(worker_loop, "opened", opened)
    monkeypatch.setattr(worker_loop, "of_all_ranks", of_two_ranks)
    monkeypatch.setattr(worker_loop, "train", lambda *_, **__: pytest.fail("it has begun"))
    definition: Any = SimpleNamespace(space=b"", folder=SweepFolder(tmp_path))
    isolated: Any = SimpleNamespace(begin_job=lambda: None, is_fresh=False)
    exchange: Any = SimpleNamespace()
    job = Job(trial="t001", attempt=1, params=PARAMS, seed=0, checkpoint=None)
    signals = Signals()
    worker(exchange, definition, tmp_path, isolated).run(job, signals)
    assert (signals.left_by, said) == ("misplaced", [imported])


@pytest.mark.parametrize("seen", [True, False])
def test_a_job_stands_where_the_sweep_was_started_or_says_where_it_stands(
    seen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    started_in = tmp_path / "started"
    if seen:
        started_in.mkdir()
    folder = SweepFolder(tmp_path / "sweep")
    worker_loop._stand_in(started_in, folder)
    stands = started_in if seen else tmp_path / "sweep" / "written"
    assert Path.cwd() == stands
    with pytest.raises(FileNotFoundError) as raised:
        Path("labels.csv").read_text()
    blind = "" if seen else f", because this node cannot see {started_in}, where the sweep was"
    said = in_one_line(raised.value, folder.code, started_in)
    assert said.startswith(
        "FileNotFoundError: [Errno 2] No such file or directory: 'labels.csv'; looked in"
        f" {stands} on {socket.gethostname()}{blind}"
    )
    assert said.endswith("; use its path in a folder that all nodes share")
