"""`list --sweeps`, `delete` and `logs`: what a storage holds, made by hand."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.cli.console import console
from sweeps.cli.output import Output
from sweeps.config import SweepConfig
from sweeps.records import removal
from sweeps.records.log_reading import Logs, job_line, worker_log
from sweeps.records.removal import size_of
from tests.conftest import CommandLine, Said
from tests.written_sweep import WrittenSweep, four_trials

SWEEP = "bert_yelp-20261122-0741-k3f9"
STORAGE = ("--storage", "results")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


# list --sweeps.


def test_all_sweeps_of_a_storage_are_listed_the_latest_first(
    results: Path, weights: Path, command_line: CommandLine
):
    four_trials(results, weights)
    running = WrittenSweep(results, "gpt2-20261123-0000-aaaa", config=SweepConfig(num_trials=8))
    os.utime(running.folder.record_file, (2e9, 2e9))
    broken = WrittenSweep(results, "gpt2-20261124-0000-bbbb")
    broken.folder.record_file.write_text('{"version": 99}')
    os.utime(broken.folder.record_file, (3e9, 3e9))

    found = json.loads(command_line("list", "--sweeps", "--json").out)
    assert [entry["sweep"] for entry in found] == [broken.folder.id, running.folder.id, SWEEP]
    assert [entry["status"] for entry in found] == [None, "running", "finished"]
    assert "is in format 99" in found[0]["problem"]
    assert (found[1]["best"], found[1]["ended"], found[1]["trials"]) == (None, 0, 8)
    ended = found[2]
    assert (ended["best"], ended["winner"], ended["metric"]) == (0.9, "t002", "eval_accuracy")
    assert (ended["ended"], ended["trials"], ended["device_s"]) == (4, 4, 120.0)
    files = [path for path in (results / SWEEP).rglob("*") if path.is_file()]
    assert ended["bytes"] == sum(path.stat().st_size for path in files)

    shown = command_line("list", "--sweeps").out.splitlines()
    assert shown[0].split()[:5] == ["sweep", "status", "trials", "best", "best"]
    assert shown[3].split()[:7] == [SWEEP, "finished", "4/4", "0.9", "t002", "eval_accuracy", "2m"]
    assert "is in format 99" in shown[4]
    assert shown[-1].startswith("3 sweeps, ")
    for sweep in (running, broken):
        sweep.log.close()


def test_an_empty_storage_has_no_sweeps_and_spaces_have_no_storage(command_line: CommandLine):
    assert command_line("list", "--sweeps") == Said(0, "no sweeps in results yet\n", "")
    assert command_line("list", "--json").code == 2


# delete.


@pytest.fixture
def ended(results: Path, weights: Path) -> WrittenSweep:
    return four_trials(results, weights)


def test_a_deleted_sweep_is_gone_and_what_it_freed_is_said(
    ended: WrittenSweep, results: Path, command_line: CommandLine
):
    best = ended.folder.checkpoints / "t002" / "best-2" / "model.safetensors"
    best.write_bytes(b"x" * 3_000_000)
    (results / "mlartifacts").mkdir()
    os.link(best, results / "mlartifacts" / "model.safetensors")
    room = size_of(ended.folder)
    assert room.shared == 3_000_000
    (ended.folder.code).mkdir()
    (ended.folder.code / "data").symlink_to(results / "mlartifacts")

    said = command_line("delete", "bert_yelp-2", "--yes")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"deleted {SWEEP}: ")
    assert " kB freed" in said.out, "what MLflow's model shares is not freed"
    assert not ended.folder.path.exists()
    assert (results / "mlartifacts" / "model.safetensors").exists()


def test_what_is_not_surely_meant_is_not_deleted(
    ended: WrittenSweep, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    for words, why in (
        (("bert_yelp", "--yes"), "may match several sweeps"),
        (("bert", "--yes"), "may match several sweeps"),
        ((SWEEP,), "pass --yes to delete without asking"),
    ):
        said = command_line("delete", *words)
        assert said.code == 2
        assert why in said.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code, is_left in ((False, 130, True), (True, 0, False)):
        monkeypatch.setattr("typer.confirm", lambda _, answer=answer: answer)
        said = command_line("delete", SWEEP)
        assert (said.code, ended.folder.path.exists()) == (code, is_left)
        assert f"{SWEEP} in " in said.out


def test_a_running_sweep_and_one_that_a_tracker_writes_are_not_deleted(
    results: Path, weights: Path, command_line: CommandLine
):
    running = WrittenSweep(results, SWEEP)
    said = command_line("delete", SWEEP, "--yes", "--force")
    assert said == Said(2, "", f"{SWEEP} is still running; stop it before you delete it\n")
    running.log.close()
    with (running.folder.logs / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = command_line("delete", SWEEP, "--yes", "--force")
    assert said == Said(2, "", f"{SWEEP} is still being written to mlflow; try again later\n")
    assert running.folder.events_file.exists()


def test_a_deletion_that_was_interrupted_can_be_repeated(
    ended: WrittenSweep, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", interrupted)
        assert command_line("delete", SWEEP, "--yes").code == 130
    assert command_line("results", SWEEP).code == 0
    assert command_line("delete", SWEEP, "--yes").code == 0
    assert not ended.folder.path.exists()


# logs.


def write_jobs(sweep: WrittenSweep, group: int, rank: int, **said: str) -> Path:
    path = worker_log(sweep.folder, group, rank)
    with path.open("a") as log:
        for trial, text in said.items():
            log.write(job_line(trial, 1, 17, {"learning_rate": 3e-5}, "no GPU") + "\n")
            log.write(text)
    return path


def test_a_trials_log_is_its_part_of_its_workers_logs(
    ended: WrittenSweep, command_line: CommandLine
):
    write_jobs(ended, 0, 0, smoke="smoking\n", t001="one\n\x1b[1mbold\n", t002="two\n")
    write_jobs(ended, 0, 1, smoke="also smoking\n", t001="one on rank 1\n", t002="")
    write_jobs(ended, 10, 0, t003="three\n")
    (ended.folder.logs / "sweep.log").write_text("Ray says\n")
    job = job_line("t001", 1, 17, {"learning_rate": 3e-5}, "no GPU")
    of_t001 = (
        f"==> group0-rank0.log <==\n{job}\none\n\x1b[1mbold\n"
        f"\n==> group0-rank1.log <==\n{job}\none on rank 1\n"
    )
    assert command_line("logs", "bert_yelp", "t001") == Said(0, of_t001, "")
    assert command_line("logs", SWEEP, "t003", "--follow").out.endswith("three\n")
    assert command_line("logs", SWEEP, "smoke").out.splitlines()[-1] == "also smoking"
    assert command_line("logs", SWEEP, "t004").out == "the logs have no lines of t004\n"
    whole = [line for line in command_line("logs", SWEEP).out.splitlines() if line[:3] == "==>"]
    assert [line.split()[1] for line in whole] == [
        *("sweep.log", "group0-rank0.log", "group0-rank1.log", "group10-rank0.log")
    ]
    assert "no trial named 't9'" in command_line("logs", SWEEP, "t9").err


def test_logs_are_followed_line_by_line(results: Path):
    sweep = WrittenSweep(results, SWEEP)
    logs = Logs(sweep.folder, "t001")
    assert list(logs.new_lines()) == []
    path = write_jobs(sweep, 0, 0, t001="begun\nhalf a li")
    assert [text for _, text in logs.new_lines()][1:] == ["begun"]
    with path.open("a") as log:
        log.write("ne\nmore\n")
    write_jobs(sweep, 1, 0, t002="another's\n")
    assert list(logs.new_lines()) == [(path.name, "half a line"), (path.name, "more")]
    write_jobs(sweep, 0, 0, t002="another's\n")
    assert list(logs.new_lines()) == []
    sweep.log.close()


def test_following_ends_with_the_trial_and_the_sweep(
    results: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    sweep = WrittenSweep(results, SWEEP)
    sweep.begin("t001")
    write_jobs(sweep, 0, 0, t001="begun\n")

    def meanwhile(_: float) -> None:
        with worker_log(sweep.folder, 0, 0).open("a") as log:
            log.write("done\n")
        sweep.end("t001", "finished")

    monkeypatch.setattr("sweeps.cli.logs_command.time.sleep", meanwhile)
    assert command_line("logs", SWEEP, "t001", "--follow").out.endswith("begun\ndone\n")
    monkeypatch.setattr("sweeps.cli.logs_command.time.sleep", lambda _: sweep.end_sweep())
    assert command_line("logs", SWEEP, "--follow").out.endswith("begun\ndone\n")


def test_logs_that_are_elsewhere_are_not_looked_for(ended: WrittenSweep, command_line: CommandLine):
    for log in ended.folder.logs.glob("*.log"):
        log.unlink()
    said = command_line("logs", SWEEP)
    assert (said.code, said.out) == (2, "")
    assert "they are on the machine where it ran" in said.err


def test_a_terminal_of_80_columns_breaks_no_word_and_shortens_no_id(
    results: Path, weights: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    four_trials(results, weights)
    calls = (("list",), ("list", "--sweeps"), ("results", SWEEP), ("results", "nosuch"))
    wide = [command_line(*call) for call in calls]
    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr(Output, "isatty", lambda _: True)
    monkeypatch.setattr(console, "width", 80)
    monkeypatch.setenv("COLUMNS", "80")
    narrow = [command_line(*call) for call in calls]
    text = [re.sub(r"\x1b\[[0-9;]*m", "", said.out + said.err) for said in narrow]
    assert max(len(line) for each in text for line in each.splitlines()) <= 80
    for i in (0, 3):
        words = (wide[i].out + wide[i].err).split()
        kept = [word for word in words if len(word) <= 80]  # a longer path does not fit
        assert [word for word in text[i].split() if word in kept] == kept
    assert re.search(rf"^{SWEEP} +finished +4/4 +0\.9 +t002 ", text[1], re.M)
    assert re.search(r"^t002 +0\.9 +stopped early ", text[2], re.M)
    assert re.search(r"^t002 +learning_rate=9e-05 total_train_batch_size=32$", text[2], re.M)
    assert "…" not in text[1] + text[2]
