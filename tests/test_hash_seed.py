"""Strings have the same hashes in all processes of a sweep, and of its resumes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.driver.worker_variables import worker_variables
from tests.processes import marking

SCRIPT = """
import os, sys, torch
from transformers import HfArgumentParser, Trainer, TrainingArguments

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, labels):
        out = self.layer(x)
        return {"loss": (out - labels).square().mean(), "logits": out}

with open(os.environ["ORDERS"], "a") as orders:
    print(os.getpid(), *{"sport", "politics", "science", "music", "travel", "food"}, file=orders)
(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
rows = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 16
Trainer(Net(), args, train_dataset=rows, eval_dataset=rows).train()
"""


def without_seed(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name != "PYTHONHASHSEED"}


def started(folder: Path, *words: str, **variables: str) -> list[list[str]]:
    """The (id, hash, arguments) of each interpreter that a command starts."""
    (folder / "sitecustomize.py").write_text(
        "import os, sys; print('PYTHON', os.getpid(), hash('label'), *sys.orig_argv[1:])"
    )
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
    ran = subprocess.run(
        [sys.executable, *words],
        env=without_seed({**os.environ, "PYTHONPATH": path}) | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ran.stdout.splitlines()
    return [line.split()[1:] for line in lines if line.startswith("PYTHON ")]


def test_a_command_runs_with_a_fixed_seed_in_the_process_that_was_started(tmp_path: Path) -> None:
    words = ("-X", "utf8", "-m", "sweeps", "run", "--help")
    first, then = started(tmp_path, *words)
    assert (first[0], first[2:]) == (then[0], then[2:])
    assert then[2:] == list(words)
    assert started(tmp_path, *words)[-1][1] == then[1] != first[1]


def test_the_own_seed_of_a_user_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(started(tmp_path, "-m", "sweeps", "--version", PYTHONHASHSEED="17")) == 1
    monkeypatch.setenv("PYTHONHASHSEED", "17")
    assert worker_variables()["PYTHONHASHSEED"] == "17"
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    assert worker_variables()["PYTHONHASHSEED"] == "0"


def test_a_program_that_runs_the_command_in_its_own_process_stays_that_process(
    tmp_path: Path,
) -> None:
    """As `%run -m sweeps` does in a notebook."""
    program = "import runpy, sys; sys.argv = ['', '--version']; runpy.run_module('sweeps')"
    assert len(started(tmp_path, "-c", program)) == 1
    program = program.replace("'sweeps'", "'sweeps', run_name='__main__'")
    assert len(started(tmp_path, "-c", program)) == 1


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_processes_iterate_over_a_set_of_strings_in_the_same_order(tmp_path: Path) -> None:
    """The dry run, two ranks, the ranks after a resume, and the evaluation of an export."""
    (tmp_path / "train.py").write_text(SCRIPT)
    orders = tmp_path / "orders.txt"
    environment = without_seed({**marking(tmp_path), "ORDERS": str(orders)})

    def sweeps(*words: str) -> None:
        command = [sys.executable, "-m", "sweeps", *words]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    tuned = ("--metric", "eval_loss", "--tune", "learning_rate=loguniform(1e-3, 1e-1)")
    group = ("--workers-per-trial", "2", "--max-concurrent", "1")
    others = ("--no-smoke", "--tracker", "tensorboard")
    sweeps("run", "train.py", *tuned, *group, *others, "--num-trials", "1")
    sweeps("resume", "train", "--num-trials", "2")
    sweeps("export", "train", "--out", "exported")
    lines = [line.split() for line in orders.read_text().splitlines()]
    assert len({process for process, *_ in lines}) >= 6
    assert len({tuple(order) for _, *order in lines}) == 1
