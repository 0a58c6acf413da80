"""A sweep with `--storage s3://…` on a real S3 server, as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.answer.results import Results, read_results
from sweeps.records.checkpoints import MARKER, weights_sha256
from sweeps.records.event_log import read_events
from sweeps.records.events import SweepEnded
from sweeps.records.object_storage import fetch_checkpoint, open_sweep
from sweeps.records.remote import of
from tests.conftest import SPACES, UNDISTURBED, CommandLine
from tests.processes import AGENTS, left_behind, marking
from tests.ray.test_faults import course
from tests.s3_server import s3_server

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
RUN = (
    *("run", str(SPACES / "curves.py"), "--num-trials", str(UNDISTURBED["num_trials"])),
    *("--seed", str(UNDISTURBED["seed"]), "--max-concurrent", "1", "--no-smoke"),
    *("--workers-per-trial", "2", "--resume-every", "0s"),
)


@pytest.fixture
def uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(monkeypatch) as uri:
        yield uri


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=marking(folder),
    )


def test_a_killed_sweep_goes_on_from_another_working_folder_and_is_read_from_a_third(
    undisturbed_sweep: Results,
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command_line: CommandLine,
):
    second, third = (tmp_path / name for name in ("second", "third"))
    for folder in (second, third):
        folder.mkdir()
    first = start(tmp_path / "first", *RUN, "--storage", uri)
    assert first.stdout is not None
    said = []
    for line in first.stdout:
        said.append(line)
        if line.startswith("t002  12%"):
            first.kill()
            break
    first.wait()
    first.stdout.close()
    assert said[-1].startswith("t002"), said

    killed = json.loads(
        command_line("results", "curves", "--storage", uri, "--json", folder=second).out
    )
    assert killed["status"] == "interrupted"
    resumed = command_line("resume", "curves", "--storage", uri, folder=second)
    assert (resumed.code, resumed.err) == (0, "")
    # The end of t001 may not have been uploaded yet when the process was killed.
    assert re.search("^resumed: [01] of 6 trials have ended$", resumed.out, re.MULTILINE)
    again = command_line("resume", "curves", "--storage", uri, folder=second)
    assert again.code == 0
    assert "is finished: every trial has ended" in again.out
    assert left_behind(tmp_path / "first", AGENTS) == []

    shown = json.loads(
        command_line("results", "curves", "--storage", uri, "--json", folder=third).out
    )
    assert (shown["status"], len(shown["trials"])) == ("finished", 6)
    assert shown["best"]["checkpoint"].startswith(f"{uri}/{shown['sweep']}/checkpoints/t00")
    monkeypatch.chdir(third)
    folder = open_sweep(uri, "curves")
    assert course(read_results(folder)) == course(undisturbed_sweep)
    winner = read_results(folder).history.winner()
    assert winner is not None
    best = winner.checkpoints["best"]
    assert weights_sha256(fetch_checkpoint(folder, best.path)) == best.sha256
    assert [e for e, _ in read_events(folder.events_file) if isinstance(e, SweepEnded)] != []
    there = of(folder).files("")
    kept = {Path(name).parent.as_posix() for name in there if name.endswith(MARKER)}
    assert kept == {
        trial["checkpoint"].removeprefix(f"{uri}/{shown['sweep']}/")
        for trial in shown["trials"]
        if trial["checkpoint"]
    }
    assert "lease.json" not in there
    log = folder.events_file.read_text() + folder.record_file.read_text()
    assert "a-secret-access-key" not in log
