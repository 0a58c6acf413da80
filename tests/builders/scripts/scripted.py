"""Scripts for the tests of scripts: their command lines, their logs, and spaces made of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune

from sweeps import SearchSpace, SweepConfig
from sweeps.builders.scripts import dry_run_process
from sweeps.builders.scripts.script import Script
from sweeps.builders.scripts.script_run import UNSEEDED
from sweeps.driver.requests.new_request import make_request
from sweeps.planning.request import Request
from sweeps.report import Report
from sweeps.workers.isolation import isolated
from tests.conftest import TINY

SCRIPTS = Path(__file__).parents[2] / "scripts" / "unchanged"

CLOCKS = ("runtime", "per_second", "epoch", "model_preparation_time")

SHORT = ("--max_steps", "8", "--eval_strategy", "steps", "--eval_steps", "2", "--do_eval")


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What the worker loop does around each job."""
    baseline = isolated.take_baseline()
    yield
    isolated.restore(baseline)
    sys.modules.pop("own_net", None)


@pytest.fixture(autouse=True)
def tutorial_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL", str(TINY))


def question_rows(folder: Path) -> Path:
    from datasets import Dataset

    folder.mkdir()
    words = ["the", "food", "was", "good", "and", "my", "room", "was", "really", "slow"]
    for split, count in (("train", 96), ("validation", 24)):
        contexts = [" ".join(words[i % 5 :] + words[: i % 5]) for i in range(count)]
        Dataset.from_dict(
            {
                "context": contexts,
                "question": [("what was slow", "what was good")[i % 2] for i in range(count)],
                "start": [text.index(("room", "food")[i % 2]) for i, text in enumerate(contexts)],
            }
        ).to_parquet(folder / f"{split}.parquet")
    return folder


def preferences(folder: Path) -> Path:
    """Rows for each of TRL's scripts: `sft`, `dpo` and `reward`, `kto`."""
    texts = [("the food was good", "the food was awful"), ("my room is great", "my room is slow")]
    for kind in ("sft", "dpo", "reward", "kto"):
        (folder / kind).mkdir(parents=True)
        for split, count in (("train", 32), ("test", 8)):
            with (folder / kind / f"{split}.jsonl").open("w") as file:
                for i in range(count):
                    good, bad = texts[i % 2]
                    row: dict[str, Any] = {
                        "sft": {"text": f"{good} {bad} {i}"},
                        "dpo": {"prompt": f"say {i}", "chosen": good, "rejected": bad},
                        "reward": {"chosen": f"{good} {i}", "rejected": bad},
                        "kto": {"prompt": f"say {i}", "completion": good, "label": i % 3 > 0},
                    }[kind]
                    file.write(json.dumps(row) + "\n")
    return folder


def words_of(kind: str, folder: Path) -> list[str]:
    """The command line of a script on tiny data."""
    model, data = str(TINY / "model"), str(TINY / "dataset")
    if kind == "glue.py":
        files = ["--train_file", f"{data}/train.parquet"]
        files += ["--validation_file", f"{data}/validation.parquet"]
        return ["--model_name_or_path", model, *files, "--do_train", *SHORT]
    if kind == "qa.py":
        questions = str(question_rows(folder / "questions"))
        return ["--model_name_or_path", model, "--data_folder", questions, *SHORT]
    if kind == "summarize.py":
        asked = ["--predict_with_generate", "--generation_max_length", "6"]
        return ["--tokenizer", model, "--data_folder", data, *asked, *SHORT]
    if kind == "lora_click.py":
        return ["--model", model, "--data", data]
    if kind.startswith("trl."):
        rows = preferences(folder / "preferences") / kind.rpartition(".")[2]
        causal = ["--model_name_or_path", str(TINY / "causal_model"), "--max_length", "24"]
        state = ["--save_strategy", "steps", "--save_steps", "8", "--use_cpu"]
        return [*causal, "--dataset_name", str(rows), *SHORT, *state]
    return []


def plain(script: str, words: list[str], folder: Path) -> list[dict[str, Any]]:
    """The log of `python SCRIPT WORDS`, in a fork, whose generators are those of a new process."""
    (folder / "plain").mkdir()
    process = multiprocessing.get_context("fork").Process(
        target=_plain, args=(script, words, folder / "plain")
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    state = sorted((folder / "plain").rglob("trainer_state.json"))[-1]
    return list(json.loads(state.read_text())["log_history"])


def _plain(script: str, words: list[str], folder: Path) -> None:
    os.chdir(folder)
    torch.manual_seed(UNSEEDED)
    if script.endswith(".py"):
        sys.argv = [str(SCRIPTS / script), *words]
        sys.path.insert(0, str(SCRIPTS))
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    else:
        sys.argv = [script, *words]
        runpy.run_module(script, run_name="__main__", alter_sys=True)


@pytest.fixture(autouse=True)
def forked_dry_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run in a fork: a new process would import everything anew."""

    own = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if dry_run_process.__name__ not in command:
            return own(command, **options)
        output = Path(command[-1]) / "output.txt"
        process = multiprocessing.get_context("fork").Process(
            target=_dry_run, args=(command[-1], options["cwd"], output)
        )
        process.start()
        process.join()
        return subprocess.CompletedProcess(command, process.exitcode or 0, "", output.read_text())

    monkeypatch.setattr("sweeps.builders.scripts.dry_run.subprocess.run", run)


def _dry_run(folder: str, base: Path, output: Path) -> None:
    os.chdir(base)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["dry_run", folder]
    dry_run_process.main()


def tried(
    script: str | Path, *words: str, folder: Path, place: Path = SCRIPTS, **flags: Any
) -> Script:
    found = Script(script, *words).located([place])
    return found.tried(flags, base=Path.cwd(), kept=folder, note=lambda _: None)


def space_of(
    script: str,
    *words: str,
    folder: Path,
    place: Path = SCRIPTS,
    metric: str = "eval_loss",
    **changes: Any,
) -> SearchSpace:
    builder = tried(script, *words, folder=folder / "dry_runs", place=place)
    whole: dict[str, Any] = {
        "mode": "min" if metric.endswith("loss") else "max",
        "tuned": {"learning_rate": tune.loguniform(1e-5, 1e-1)},
        "evals_per_trial": 4,
    }
    return SearchSpace(build_trainer=builder, metric=metric, **whole | changes)


def plainly(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if not key.endswith(CLOCKS)}


def reported(reports: list[Report]) -> list[dict[str, Any]]:
    return [{**plainly(dict(each.metrics)), "step": each.step} for each in reports]


HEAD = """
import torch
from transformers import Trainer, TrainingArguments
from own_net import Net, rows

def make(args, kind=Trainer, **given):
    return kind(Net(), args, train_dataset=rows(64), eval_dataset=rows(16), **given)

def arguments(**given):
    return TrainingArguments("out", max_steps=8, report_to="none", **given)
"""

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, labels):
        return {"loss": (self.w * x - labels).square().mean(), "logits": self.w * x}

def rows(count):
    return [{"x": [1.0], "labels": [float(i % 4 > 0)]} for i in range(count)]
"""


def written(folder: Path, text: str) -> SearchSpace:
    """A space over a script of one's own, with a helper beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "own_net.py").write_text(NET)
    (folder / "train.py").write_text(HEAD + text)
    return space_of("train.py", folder=folder, place=folder)


PARSERS = {
    "argparse": """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--rows", dest="count", type=int, default=64)
parser.add_argument("--betas", type=float, nargs=2, default=(0.9, 0.999))
parser.add_argument("--fast", action="store_true")
parser.add_argument("--clip", action=argparse.BooleanOptionalAction, default=True)
main(**vars(parser.parse_args()))
""",
    "a subcommand of argparse": """
import argparse
commands = argparse.ArgumentParser().add_subparsers()
parser = commands.add_parser("train")
parser.add_argument("--count", type=int, default=64)
parser.add_argument("--betas", type=float, nargs=2, default=(0.9, 0.999))
parser.add_argument("--fast", action="store_true")
parser.add_argument("--clip", action=argparse.BooleanOptionalAction, default=True)
import sys
main(**vars(parser.parse_args(sys.argv[2:])))
""",
    "a command of click": """
import click

@click.group()
def commands():
    pass

@commands.command()
@click.option("--count", default=64)
@click.option("--betas", nargs=2, default=(0.9, 0.999))
@click.option("--fast", is_flag=True)
@click.option("--clip/--no-clip", default=True)
def train(**options):
    main(**options)

commands()
""",
    "typer": """
import typer
typer.run(main)
""",
}

MAIN = """
def main(count: int = 64, betas: tuple[float, float] = (0.9, 0.999), fast: bool = False,
         clip: bool = True):
    trainer = make(arguments())
    trainer.model.config = (count, tuple(betas), fast, clip)
    trainer.train()
"""

SPACE = """
from ray import tune
from sweeps import Script, SearchSpace

SEARCH_SPACE = SearchSpace(
    build_trainer=Script("train.py", "--width", "2"),
    metric="eval_loss",
    mode="min",
    tuned={"learning_rate": tune.loguniform(1e-3, 1e-1), "rows": tune.choice([32, 64])},
    evals_per_trial=4,
)
"""

WITH_FLAGS = """
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=1)
parser.add_argument("--rows", type=int, required=True)
options = parser.parse_args()
given = rows(options.rows)
Trainer(Net(), arguments(), train_dataset=given, eval_dataset=rows(16)).train()
"""


def project(folder: Path) -> Path:
    """A script at the top, with a helper beside it, and a space in a folder below."""
    (folder / "search_spaces").mkdir(parents=True)
    (folder / "own_net.py").write_text(NET)
    (folder / "train.py").write_text(HEAD + WITH_FLAGS)
    (folder / "search_spaces" / "widths.py").write_text(SPACE)
    return folder / "search_spaces" / "widths.py"


def requested(space: Any, folder: Path, *assignments: str) -> Request:
    """The request of someone who stands in the project's folder."""
    config = SweepConfig(storage=str(folder / "results"))
    return make_request(space, config, assignments=assignments, base=folder / "project")


COPIED = """
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--layers", type=int, default=8)
parser.add_argument("--share", type=lambda word: int(word) / 100, default=0.25)
options = parser.parse_args()
make(TrainingArguments(
    "out", max_steps=8, report_to="none", learning_rate=options.lr,
    per_device_train_batch_size=options.batch, gradient_accumulation_steps=64 // options.batch,
)).train()
"""

SCHEDULE = tune.choice(["linear", "cosine"])
