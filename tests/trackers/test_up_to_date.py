"""`ui` and `resume` of a sweep whose processes were all killed when it ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import sweeps
from sweeps.config import SweepConfig
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.driver.requests.new_request import make_request
from sweeps.records.sweep_record import read_record, write_record
from sweeps.space.code_copy import copy_code
from sweeps.trackers.state import is_up_to_date
from tests.conftest import CommandLine
from tests.stored_runs import runs_of
from tests.written_sweep import WrittenSweep

SPACE = """
from ray import tune
from transformers import TrainingArguments
from sweeps import SearchSpace

def build(args: TrainingArguments):
    raise AssertionError

SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
    evals_per_trial=4,
)
"""
Killed = Callable[..., WrittenSweep]


@pytest.fixture
def killed(new_sweep: Callable[..., WrittenSweep], tmp_path: Path) -> Killed:
    """Make a sweep that has ended; its trackers did not learn of it."""

    def make(*trackers: str) -> WrittenSweep:
        file = tmp_path / "it's.py"
        file.write_text(SPACE)
        config = SweepConfig(num_trials=1, trackers=trackers, storage=str(tmp_path))
        request = make_request(str(file), config)
        sweep = new_sweep("it's-20261122-0741-k3f9")
        sweep.record = make_record(request, sweep.folder.id)
        write_record(sweep.folder, sweep.record)
        copy_code(request.loaded, sweep.folder.code)
        sweep.begin("t001")
        sweep.report("t001", 1, 0.5)
        for tracker in trackers:
            assert sweep.feed(tracker).advance()
        sweep.end("t001", "finished")
        sweep.end_sweep()
        return sweep

    return make


def test_ui_brings_mlflow_up_to_date(killed: Killed, command_line: CommandLine) -> None:
    sweep = killed("mlflow")
    assert {run.info.status for run in runs_of(sweep).values()} == {"RUNNING"}
    words = ("ui", "it's", "--storage", str(sweep.storage), "--tracking-uri", "http://127.0.0.1:9")
    said = command_line(*words)
    assert said.code == 0, said.err
    assert said.out.startswith("bringing mlflow up to date\nhttp://127.0.0.1:9/#/experiments/")
    assert {run.info.status for run in runs_of(sweep).values()} == {"FINISHED"}
    assert is_up_to_date(sweep.folder, "mlflow")
    assert command_line(*words).out.startswith("http://127.0.0.1:9/#/experiments/")
    said = command_line(*words, "--port", "5000").out
    assert said.startswith(
        "--port 5000 has no effect: the runs are on a server\nhttp://127.0.0.1:9/"
    )


def test_resume_brings_every_tracker_up_to_date_and_takes_new_ones(
    killed: Killed, command_line: CommandLine
) -> None:
    sweep = killed()
    words = ("resume", "it's", "--storage", str(sweep.storage), "--tracker", "tensorboard")
    said = command_line(*words)
    assert (said.code, said.err) == (0, "")
    finished = (
        f"{sweep.folder.id} is finished: every trial has ended; to run more, pass a --num-trials"
        " above 1"
    )
    assert said.out == f"{finished}\nbringing tensorboard up to date\n"
    files = list((sweep.folder.path / "tensorboard" / "t001").iterdir())
    assert len(files) == 1
    assert is_up_to_date(sweep.folder, "tensorboard")
    record = read_record(sweep.folder)
    assert record.config.trackers == ("tensorboard",)
    assert len(record.resumed) == 1

    class Lines(sweeps.Follower):
        lines: list[str] = []

        def note(self, text: str) -> None:
            self.lines.append(text)

    assert "bringing" not in command_line(*words).out, "it has everything"
    files[0].unlink()
    again = sweeps.resume("it's", storage=sweep.storage, followers=[Lines()])
    assert again.id == sweep.folder.id
    assert Lines.lines == [finished, "bringing tensorboard up to date"]
    assert len(list((sweep.folder.path / "tensorboard" / "t001").iterdir())) == 1
    assert len(read_record(sweep.folder).resumed) == 1, "nothing changed"
