"""A script as a builder: its trials equal the plain script with the same values to the last bit."""

from __future__ import annotations

import gc
import json
import logging
import logging.handlers
import multiprocessing
import os
import queue
import runpy
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune

from sweeps import SearchSpace, SweepConfig, when
from sweeps.builders.scripts import dry_run_process
from sweeps.builders.scripts.script import Script
from sweeps.builders.scripts.script_run import UNSEEDED
from sweeps.driver.requests.make_sweep_record import space_record
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.records.events import Phase
from sweeps.report import Report
from sweeps.space.arguments import argument_fields, argument_values, trial_seed
from sweeps.space.checks import check_space
from sweeps.space.code_copy import copy_code
from sweeps.space.loading import LoadedSpace, load_copy
from sweeps.workers.isolation import isolated
from sweeps.workers.job import Reply
from sweeps.workers.pickled_space import import_libraries, opened, pickled
from tests.conftest import TINY
from tests.workers.test_training import CPU, run_job

SCRIPTS = Path(__file__).parents[1] / "scripts"
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


def test_a_dry_run_finds_no_module_in_the_folder_that_trials_run_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a worker; the file may have the name of a library."""
    (tmp_path / "own.py").touch()
    commands = list[list[str]]()
    run = subprocess.run

    def note(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "")

    monkeypatch.setattr("sweeps.builders.scripts.dry_run.subprocess.run", note)
    with pytest.raises(UserError):
        tried("tutorial.py", folder=tmp_path / "dry_runs")
    python = commands[0][: commands[0].index("-m")]
    imports = [*python, "-c", "import own"]
    assert b"No module named 'own'" in run(imports, cwd=tmp_path, capture_output=True).stderr


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


@pytest.mark.parametrize(
    ("script", "params", "flags"),
    [
        ("glue.py", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("qa.py", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("summarize.py", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("tutorial.py", {"learning_rate": 2e-5}, []),
        ("lora_click.py", {"learning_rate": 3e-3}, ["--lr", "0.003"]),
        ("trl.scripts.sft", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("trl.scripts.dpo", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("trl.scripts.reward", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("trl.scripts.kto", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
    ],
)
def test_a_trial_equals_the_plain_script_with_its_values_to_the_last_bit(
    script: str, params: dict[str, Any], flags: list[str], tmp_path: Path
):
    words = words_of(script, tmp_path)
    expected = plain(script, [*words, *flags], tmp_path)
    space = space_of(script, *words, folder=tmp_path)
    reports, _ = run_job(space, params, tmp_path / "sweep")
    evaluations = [plainly(entry) for entry in expected if "eval_loss" in entry][:4]
    assert len(evaluations) == 4
    assert reported(reports) == evaluations
    assert evaluations[0]["eval_loss"] != evaluations[3]["eval_loss"], "it trains"


def test_a_resumed_trial_goes_on_as_if_nothing_had_been(tmp_path: Path):
    space = space_of("tutorial.py", folder=tmp_path)
    params = {"learning_rate": 3e-3}
    whole, _ = run_job(space, params, tmp_path / "whole")

    def stop(number: int) -> Reply:
        return Reply("pause" if number == 2 else "continue", save_best=False, save_state=False)

    first, saved = run_job(space, params, tmp_path / "cut", stop)
    rest, _ = run_job(space, params, tmp_path / "cut", checkpoint=saved[-1].path)
    assert [len(first), len(rest)] == [2, 2]
    assert reported([*first, *rest]) == reported(whole)


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


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as raised:
        written(folder, text)
    return str(raised.value)


@pytest.mark.parametrize(
    "ending",
    [
        "try:\n    trainer.train()\nexcept Exception:\n    print('failed')",
        "try:\n    trainer.train()\nexcept:\n    print('failed')",
        "try:\n    trainer.train()\nfinally:\n    torch.distributed.destroy_process_group()",
        "import sys\nsys.exit(trainer.train())",
        "class Mine(Trainer):\n    def train(self, **more):\n        torch.rand(1)\n"
        "        return super().train(**more)\nmake(arguments(), Mine).train()",
    ],
)
def test_train_is_left_whatever_stands_around_it(ending: str, tmp_path: Path):
    body = "" if "Mine" in ending else "trainer = make(arguments())\n"
    space = written(tmp_path, body + ending)
    reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    assert [report.number for report in reports] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text",
    [
        "model = Net()\nown = torch.optim.AdamW(model.parameters(), lr=1e-3)\n"
        "Trainer(model, arguments(), train_dataset=rows(64), eval_dataset=rows(16),"
        " optimizers=(own, None)).train()",
        "class Mine(Trainer):\n    def create_optimizer(self, model=None):\n"
        "        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)\n"
        "make(arguments(), Mine).train()",
    ],
    ids=["given", "created"],
)
def test_an_optimizer_that_ignores_what_is_tuned_is_found_in_the_dry_run(text: str, tmp_path: Path):
    space = written(tmp_path, text)
    with pytest.raises(UserError) as found:
        check_space(space, argument_fields(space.build_trainer), "train.py")
    assert (
        "tuned['learning_rate']: learning_rate has no effect: the trainer's own optimizer"
        in str(found.value)
    )
    follows = text.replace("lr=1e-3", "lr=self.args.learning_rate")
    if "self" in text:
        space = written(tmp_path / "follows", follows)
        check_space(space, argument_fields(space.build_trainer), "train.py")


def test_what_follows_from_a_value_follows_from_that_of_the_trial(tmp_path: Path):
    text = """
from dataclasses import dataclass

@dataclass
class Mine(TrainingArguments):
    scale: float = 2.0
    doubled: float = 0.0

    def __post_init__(self):
        self.doubled = self.scale * self.learning_rate
        super().__post_init__()

args = Mine("out", max_steps=8, learning_rate=1e-3, lr_scheduler_kwargs={"a": 1},
            save_strategy="steps", load_best_model_at_end=True, eval_strategy="steps")
args.eval_strategy = "epoch"  # without effect: sweeps owns it
make(args).train()
"""
    space = written(tmp_path, text)
    assert space.builder.argument_values["learning_rate"] == 1e-3
    assert argument_fields(space.build_trainer)["scale"] is False
    values = argument_values(
        replace(space, fixed={"lr_scheduler_kwargs.b": 2}),
        {"learning_rate": 0.5, "scale": 3.0, "total_train_batch_size": 16},
        devices=CPU,
        output_dir=tmp_path / "trial",
        seed=5,
    )
    args = space.build_trainer(values).args
    assert (args.doubled, args.learning_rate, args.seed) == (1.5, 0.5, 5)
    assert (args.eval_strategy, args.load_best_model_at_end) == ("steps", False)
    assert args.per_device_train_batch_size == 16
    assert args.lr_scheduler_kwargs == {"a": 1, "b": 2}
    assert args.output_dir == str(tmp_path / "trial")


def test_what_the_script_sets_later_is_its_own_value(tmp_path: Path):
    text = """
args = arguments(seed=3, fp16=True)
args.seed = 4
args.fp16 = False
args.weight_decay = 0.1
make(args).train()
"""
    space = written(tmp_path, text)
    own = {"max_steps": 8, "seed": 4, "weight_decay": 0.1}
    assert space.builder.argument_values == own
    assert trial_seed(space, {}, default=0) == 4
    reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    assert len(reports) == 4


def test_a_line_that_changes_a_tuned_value_is_refused(tmp_path: Path):
    text = "args = arguments()\nargs.learning_rate = 1e-3  # HERE\nmake(args).train()"
    space = written(tmp_path, text)
    line = (HEAD + text).split("\n").index("args.learning_rate = 1e-3  # HERE") + 1
    with pytest.raises(UserError) as raised:
        run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    assert raised.value.problems == [
        f"line {line}: args.learning_rate = 1e-3  # HERE: this sets learning_rate to 0.001, but the"
        " sweep sets it to 0.05 in this trial; remove this line, or remove learning_rate from the"
        " space"
    ]


@pytest.mark.parametrize(
    "change",
    [
        "args = copy.deepcopy(args); args.learning_rate = 1e-3",
        "args = copy.copy(args); vars(args).update(learning_rate=1e-3)",
        "args.set_optimizer(learning_rate=1e-3)",
        "vars(args).update(learning_rate=1e-3)",
    ],
)
def test_a_tuned_value_is_that_of_the_trial_however_the_script_changes_it(
    change: str, tmp_path: Path
):
    space = written(tmp_path, f"import copy\nargs = arguments()\n{change}\nmake(args).train()")
    with pytest.raises(UserError, match=r"sets learning_rate to 0\.001, but the sweep sets it"):
        space.build_trainer({"output_dir": str(tmp_path / "trial"), "learning_rate": 0.05})


def test_a_copy_of_the_arguments_and_what_sweeps_owns_pass(tmp_path: Path):
    text = """
import copy

class Mine(Trainer):
    def __init__(self, net, args, **more):
        super().__init__(net, copy.copy(args), **more)

args = arguments()
args.set_save("epoch")  # without effect: sweeps owns it
make(args, Mine).train()
"""
    space = written(tmp_path, text)
    values = {"output_dir": str(tmp_path / "trial"), "learning_rate": 0.05, "save_strategy": "no"}
    args = space.build_trainer(values).args
    assert (args.learning_rate, args.save_strategy) == (0.05, "no")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("print('done')", "ended without calling train() on a transformers.Trainer"),
        ("raise SystemExit('no data')", ": raise SystemExit('no data'): the script ends"),
        (
            "one, two = make(arguments()), make(arguments())\ntwo.train()",
            "the script creates several trainers (the first on line",
        ),
        ("name = input('model?')", ": name = input('model?'): asks for input"),
        (
            "loss = Net()(torch.ones(1), torch.ones(1))['loss']\nloss.backward()",
            ": loss.backward(): the script has its own training loop",
        ),
        (
            "from accelerate import Accelerator\naccelerator = Accelerator()\n"
            "loss = Net()(torch.ones(1), torch.ones(1))['loss']\naccelerator.backward(loss)",
            ": accelerator.backward(loss): the script has its own training loop",
        ),
        ("1 / 0", ": 1 / 0: ZeroDivisionError: division by zero"),
        (
            "make(arguments()).train('elsewhere/checkpoint-3')",
            "train() resumes from elsewhere/checkpoint-3",
        ),
        (
            "Trainer(Net(), arguments(), train_dataset=rows(8)).train()",
            "this Trainer has no eval_dataset",
        ),
        (
            "import argparse\nparser = argparse.ArgumentParser()\n"
            "parser.add_argument('--data', required=True)\nparser.parse_args()",
            "the script rejects its command line: the following arguments are required: --data",
        ),
    ],
)
def test_a_script_that_cannot_be_swept_is_refused_before_anything_starts(
    text: str, problem: str, tmp_path: Path
):
    assert problem in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--rounds', type=int, default=2)\nparser.parse_args()",
        "import click\n\n@click.command()\n@click.option('--rounds', default=2)\n"
        "def main(rounds): ...\n\nmain()",
    ],
)
def test_a_range_of_fractions_for_an_integer_flag_is_refused_as_it_was_written(
    text: str, tmp_path: Path
):
    (tmp_path / "train.py").write_text(text)
    with pytest.raises(UserError, match="tuned") as raised:
        tried("train.py", folder=tmp_path, place=tmp_path, rounds=tune.uniform(1, 3))
    assert raised.value.problems == [
        "tuned['rounds']: uniform(1, 3) yields fractions, but the value must be an integer; use"
        " randint(1, 4)"
    ]


def test_a_dry_run_is_made_once_for_the_same_script(tmp_path: Path, monkeypatch: Any):
    written(tmp_path, "make(arguments()).train()")

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a second dry run")

    monkeypatch.setattr("sweeps.builders.scripts.dry_run.subprocess.run", never)
    written(tmp_path, "make(arguments()).train()")
    with pytest.raises(AssertionError, match="a second dry run"):
        written(tmp_path, "make(arguments(seed=3)).train()")


def test_a_dry_run_is_made_anew_where_a_config_or_a_module_below_has_changed(tmp_path: Path):
    text = "import json, sys\nfrom parts.seeds import more\n"
    text += "make(arguments(seed=more + json.load(open(sys.argv[1]))['seed'])).train()"
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    (tmp_path / "parts").mkdir()
    config, module = tmp_path / "config.json", tmp_path / "parts" / "seeds.py"
    seeds = []
    for seed, more in ((1, 0), (2, 0), (2, 10)):
        config.write_text(json.dumps({"seed": seed}))
        module.write_text(f"more = {more}\n# {'-' * more}")
        builder = tried("train.py", str(config), folder=tmp_path / "dry_runs", place=tmp_path)
        seeds.append(builder.argument_values["seed"])
    assert seeds == [1, 2, 12]


def test_a_package_runs_as_python_m_runs_it(tmp_path: Path):
    package = tmp_path / "own_package"
    package.mkdir()
    (tmp_path / "own_net.py").write_text(NET)
    (package / "__init__.py").write_text("")
    (package / "seeds.py").write_text("SEED = 17")
    body = "from .seeds import SEED\nmake(arguments(seed=SEED)).train()"
    (package / "__main__.py").write_text(HEAD + body)
    for name in ("own_package", "own_package.__main__"):
        builder = tried(name, folder=tmp_path / "dry_runs", place=tmp_path)
        assert builder.script_folder == tmp_path
        assert builder.argument_values["seed"] == 17


def test_someone_who_waits_for_a_dry_run_is_told_so(tmp_path: Path, monkeypatch: Any):
    said = queue.Queue[logging.LogRecord]()
    handler = logging.handlers.QueueHandler(said)
    logger = logging.getLogger("sweeps")
    lines = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        lines.append(said.get(timeout=20).getMessage())
        return subprocess.CompletedProcess(command, 1, "", "ended")

    monkeypatch.setattr("sweeps.builders.scripts.dry_run.subprocess.run", run)
    monkeypatch.setattr("sweeps.builders.scripts.dry_run._PATIENCE", 0.0)
    logger.addHandler(handler)
    try:
        with pytest.raises(UserError, match="the dry run ended with exit code 1: ended"):
            tried("tutorial.py", folder=tmp_path)
    finally:
        logger.removeHandler(handler)
    assert lines == ["tutorial.py: waiting for its dry run, which runs the script up to train()"]


def test_a_flag_of_the_script_is_tuned_and_equals_the_plain_script(tmp_path: Path):
    words = words_of("lora_click.py", tmp_path)
    flags = ["--lora-r", "2", "--bias", "--lr", "0.003", "--seed", "11"]
    expected = plain("lora_click.py", [*words, *flags], tmp_path)
    space = space_of("lora_click.py", *words, folder=tmp_path, fixed={"bias": True, "seed": 11})
    params = {"lr": 0.003, "lora_r": 2}
    reports, _ = run_job(space, params, tmp_path / "sweep")
    assert reported(reports) == [plainly(each) for each in expected if "eval_loss" in each][:4]


def test_fewer_rows_are_half_of_those_that_the_trials_own_flag_gives(tmp_path: Path):
    """The dry run had others."""
    text = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=8)
options = parser.parse_args()
make(arguments(per_device_train_batch_size=options.batch)).train()
"""
    space = replace(written(tmp_path, text), tuned={"batch": tune.choice([8, 32])})
    whole, _ = run_job(space, {"batch": 32}, tmp_path / "whole")
    assert whole[-1].epoch == 4
    phases = frozenset[Phase]({"training", "evaluation"})
    halved, _ = run_job(space, {"batch": 32}, tmp_path / "halved", reduced=phases)
    losses = [each.metrics["eval_loss"] for each in whole]
    assert [each.metrics["eval_loss"] for each in halved] == pytest.approx(losses)
    assert [each.epoch for each in halved] == [each.epoch for each in whole]
    builder = space.build_trainer.with_fewer_rows(phases)  # type: ignore[attr-defined]
    args = builder({"output_dir": str(tmp_path / "trial")}, batch=32).args
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (16, 2)
    assert args.per_device_eval_batch_size == 4


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


@pytest.mark.parametrize("parser", PARSERS)
def test_flags_reach_the_script_whatever_parses_them(parser: str, tmp_path: Path):
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + MAIN + PARSERS[parser])
    words = ["train"] if "command" in parser else []
    builder = tried("train.py", *words, folder=tmp_path / "dry_runs", place=tmp_path)
    assert builder.keyword_names == {"count", "betas", "fast", "clip"}
    for flags in (
        {"count": 32, "betas": [0.5, 0.75], "fast": True, "clip": False},
        {"count": 16, "betas": [0.25, 0.5], "fast": False, "clip": True},
    ):
        trainer = builder({"output_dir": str(tmp_path / "trial")}, **flags)
        given = {**flags, "betas": tuple(flags["betas"])}
        assert trainer.model.config == tuple(given.values())


ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("data", nargs="?")
parser.add_argument("--cut", type=float, default=0.5)
parser.add_argument("--bias", action="store_true")
parser.add_argument("--real", type=bool, default=True)
parser.add_argument("--deep", action="count", default=0)
parser.add_argument("--size", action="store_const", const=9, default=1)
parser.add_argument("--kept", type=int, default=1)
parser.add_argument("--share", type=lambda word: int(word) / 100)
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = options
trainer.train()
"""


def given_flags(folder: Path, text: str, *words: str, **flags: Any) -> Any:
    """What the parser of a script returns in a trial; its dry run had no values."""
    (folder / "own_net.py").write_text(NET)
    (folder / "train.py").write_text(HEAD + text)
    builder = tried("train.py", *words, folder=folder / "dry_runs", place=folder)
    return builder({"output_dir": str(folder / "trial")}, **flags).model.config


def test_every_value_that_the_parser_does_not_return_is_refused_by_name(tmp_path: Path):
    words = ("rows.json", "--bias", "--cut", "0.3")
    told = given_flags(tmp_path, ARGPARSE, *words, cut=-5e-05, bias=True, share=25, deep=1)
    assert (told.cut, told.bias, told.share, told.deep) == (-5e-05, True, 0.25, 1)
    for name, value, got in (
        ("cut", None, 0.3),
        ("bias", False, True),
        ("real", False, True),
        ("deep", 3, 1),
        ("size", 5, 9),
    ):
        with pytest.raises(UserError, match=rf"{name} is {got}, but this trial sets it to {value}"):
            given_flags(tmp_path, ARGPARSE, *words, **{name: value})
    for text, line in (
        (ARGPARSE.replace('nargs="?"', "nargs=argparse.REMAINDER"), ["rows.json"]),
        (ARGPARSE.replace("parse_args()", "parse_args(['--kept', '1'])"), []),
    ):
        with pytest.raises(UserError, match="kept is 1, but this trial sets it to 2"):
            given_flags(tmp_path, text, *line, kept=2)


def test_what_a_parser_makes_of_a_value_is_its_own_business(tmp_path: Path):
    text = """
import argparse, json, pathlib

class Twice(argparse.Action):
    def __call__(self, parser, options, value, option=None):
        setattr(options, self.dest, (value, value))

class Opened:
    def __init__(self, name):
        self.name = name

parser = argparse.ArgumentParser()
parser.add_argument("--mods", nargs="+")
parser.add_argument("--pair", action=Twice)
parser.add_argument("--table", type=json.loads)
parser.add_argument("--file", type=Opened)
parser.add_argument("--path", type=pathlib.Path)
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = options
trainer.train()
"""
    flags = {"mods": "q", "pair": "a", "table": '{"a": 1}', "file": "f", "path": "p"}
    told = given_flags(tmp_path, text, **flags)
    assert (told.mods, told.pair, told.table) == (["q"], ("a", "a"), {"a": 1})
    assert (told.file.name, told.path) == ("f", Path("p"))


OFF: dict[str, str] = {
    "argparse": """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--no_bias", dest="bias", action="store_false")
parser.add_argument("--plain", dest="fast", action="store_false")
parser.add_argument("--fast", dest="fast", action="store_true")
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = (options.bias, options.fast)
trainer.train()
""",
    "click": """
import click

@click.command()
@click.option("--no_bias", "bias", is_flag=True, flag_value=False, default=True)
@click.option("--fast/--plain", default=False)
def main(bias, fast):
    trainer = make(arguments())
    trainer.model.config = (bias, fast)
    trainer.train()

main()
""",
}


@pytest.mark.parametrize("parser", OFF)
def test_a_flag_may_have_an_option_that_turns_it_off(parser: str, tmp_path: Path):
    assert given_flags(tmp_path, OFF[parser], bias=False, fast=True) == (False, True)
    assert given_flags(tmp_path, OFF[parser], "--fast", bias=True, fast=False) == (True, False)
    with pytest.raises(UserError, match="bias is False, but this trial sets it to True"):
        given_flags(tmp_path, OFF[parser], "--no_bias", bias=True)


LISTS = """
import argparse
from dataclasses import dataclass, field
from transformers import HfArgumentParser

@dataclass
class Choices:
    frozen: list[str] = field(default_factory=list)

parser = HfArgumentParser(Choices)
parser.add_argument("--skipped", nargs="*", default=["head"])
parser.add_argument("--layers", nargs="+", default=["0"])
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = options
trainer.train()
"""


def test_an_empty_list_is_a_value_if_the_command_line_can_give_it(tmp_path: Path):
    for frozen in ([], ["head"]):
        told = given_flags(tmp_path, LISTS, frozen=frozen, skipped=[])
        assert (told.frozen, told.skipped) == (frozen, [])
    for words, name in ((("--frozen", "head"), "frozen"), ((), "layers")):
        with pytest.raises(UserError, match=r"to \[\]: a command line cannot set it"):
            given_flags(tmp_path, LISTS, *words, **{name: []})


def test_a_flag_of_click_that_cannot_be_switched_off_is_refused(tmp_path: Path):
    text = """
import click

@click.command()
@click.argument("data")
@click.option("--bias", is_flag=True)
@click.option("--cut", type=float)
@click.option("--width", type=int, callback=lambda context, option, width: 2 * (width or 1))
def main(**options):
    trainer = make(arguments())
    trainer.model.config = options
    trainer.train()

main()
"""
    words = ("rows.json", "--bias")
    told = given_flags(tmp_path, text, *words, bias=True, cut=-5e-05, width=3)
    assert told == {"data": "rows.json", "bias": True, "cut": -5e-05, "width": 6}
    with pytest.raises(UserError, match="bias is True, but this trial sets it to False"):
        given_flags(tmp_path, text, *words, bias=False)


CHOICES = {
    "pooling": tune.choice(["mean", "clz", "avg"]),
    "freeze": tune.choice([True, False]),
    "layernorm": tune.choice([True, False]),
    "share": tune.uniform(0.1, 1.5),
    "width": tune.choice([2, 4]),
}


def test_every_choice_of_a_flag_is_tried_by_the_dry_run(tmp_path: Path):
    """Argparse rejects a value, or makes another one of it."""
    text = """
import argparse

def share(word):
    if not 0 < float(word) < 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return float(word)

parser = argparse.ArgumentParser()
parser.add_argument("--pooling", choices=["mean", "max"], default="mean")
parser.add_argument("--freeze", action="store_true")
parser.add_argument("--layernorm", type=bool, default=True)
parser.add_argument("--share", type=share, default=0.5)
parser.add_argument("--width", type=int, default=2)
parser.parse_args()
make(arguments()).train()
"""
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    with pytest.raises(UserError) as found:
        tried("train.py", "--freeze", folder=tmp_path / "runs", place=tmp_path, **CHOICES)
    assert sorted(found.value.problems) == [
        "tuned['freeze']: freeze is True, but this trial sets it to False: a command line cannot"
        " set it",
        "tuned['layernorm']: layernorm is True, but this trial sets it to False:"
        " --layernorm=False does not set it",
        "tuned['pooling']: the script rejects pooling = 'avg': argument --pooling: invalid choice:"
        " 'avg' (choose from 'mean', 'max')",
        "tuned['pooling']: the script rejects pooling = 'clz': argument --pooling: invalid choice:"
        " 'clz' (choose from 'mean', 'max')",
        "tuned['share']: the script rejects share = 1.5: argument --share: must be between 0 and 1",
    ]


def test_every_choice_of_a_flag_of_click_is_tried_by_the_dry_run(tmp_path: Path):
    text = """
import click

@click.command()
@click.option("--pooling", type=click.Choice(["mean", "max"]), default="mean")
@click.option("--freeze", is_flag=True)
@click.option("--share", type=click.FloatRange(0, 1), default=0.5)
def main(**options):
    make(arguments()).train()

main()
"""
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    flags = {name: CHOICES[name] for name in ("pooling", "freeze", "share")}
    with pytest.raises(UserError) as found:
        tried("train.py", folder=tmp_path / "runs", place=tmp_path, **flags)
    assert [each.partition(":")[0] for each in sorted(found.value.problems)] == [
        "tuned['pooling']", "tuned['pooling']", "tuned['share']",
    ]  # fmt: skip


def test_a_tuned_flag_that_click_would_ask_for_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Click takes `input` when it is imported, which is after the dry run has replaced it."""
    text = """
import click

@click.command()
@click.option("--width", type=int, prompt=True)
def main(width):
    make(arguments()).train()

main()
"""
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda shown: input(shown))
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    flags = {"width": tune.choice([2, 3])}
    builder = tried("train.py", folder=tmp_path / "runs", place=tmp_path, **flags)
    assert (builder.tried_values, builder.keyword_values) == ({"width": 2}, {})


def test_a_second_parser_gets_the_flag_that_the_first_has_read(tmp_path: Path):
    text = """
import argparse
first, second = argparse.ArgumentParser(), argparse.ArgumentParser()
for parser in (first, second):
    parser.add_argument("--width", type=int, required=True)
first.parse_args(), second.parse_args()
make(arguments()).train()
"""
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    assert tried("train.py", folder=tmp_path, place=tmp_path, width=3).keyword_names == {"width"}


def test_a_config_file_in_place_of_a_command_line_keeps_its_place(tmp_path: Path):
    words = words_of("glue.py", tmp_path)[:-8]
    config = tmp_path / "config.json"
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    values = {key.removeprefix("--"): value for key, value in pairs.items()}
    config.write_text(json.dumps({**values, "max_steps": 8, "learning_rate": 1e-5}))
    space = space_of("glue.py", str(config), folder=tmp_path)
    assert "max_seq_length" in space.builder.keywords
    params = {"learning_rate": 3e-3, "max_seq_length": 8}
    reports, _ = run_job(space, params, tmp_path / "sweep")
    assert len(reports) == 4


def test_a_second_trial_in_a_process_equals_one_in_a_fresh_process(tmp_path: Path):
    text = """
import own_net
own_net.calls = getattr(own_net, "calls", 0) + 1
assert own_net.calls == 1 and __name__ == "__main__"
make(arguments()).train()
"""
    space = written(tmp_path, text)
    main, argv = sys.modules["__main__"], list(sys.argv)
    process = isolated.Isolated()
    found = []
    for number in range(2):
        process.begin_job()
        reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / f"sweep{number}")
        found.append(reported(reports))
        assert sys.modules["__main__"] is not main
        patched = process.end_job()
        assert patched.names == ()
    assert found[0] == found[1]
    assert (sys.modules["__main__"], sys.argv) == (main, argv)


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


def test_a_worker_runs_the_copy_of_the_script_and_of_what_is_beside_it(tmp_path: Path):
    space_file = project(tmp_path / "project")
    request = requested(str(space_file), tmp_path)
    assert request.space.builder.keywords == {"width", "rows"}
    code = tmp_path / "sweep" / "code"
    copy_code(request.loaded, code)
    shutil.rmtree(tmp_path / "project")
    space = opened(pickled(request.loaded, request.space), code)
    assert space.builder.script_file == code / "train.py"
    reports, _ = run_job(space, {"learning_rate": 0.05, "rows": 32}, tmp_path / "sweep")
    assert reports[-1].max_steps == 8
    assert reports[-1].epoch == 2.0  # 32 rows, 8 at a time
    assert sys.modules["own_net"].__file__ == str(code / "own_net.py")


def test_the_script_of_a_space_made_in_python_goes_along(tmp_path: Path):
    project(tmp_path / "project")
    tuned = {"learning_rate": tune.uniform(0.0, 1.0), "rows": tune.choice([32])}
    space = SearchSpace(
        build_trainer=Script("train.py"), metric="eval_loss", mode="min", tuned=tuned
    )
    request = requested(space, tmp_path)
    code = tmp_path / "sweep" / "code"
    copy_code(request.loaded, code)
    there = opened(pickled(request.loaded, request.space), code).builder
    assert there.script_file == code / "train.py"
    assert there.argument_values == {"max_steps": 8, "seed": 42}


def test_a_recorded_space_runs_the_recorded_script(tmp_path: Path):
    space_file = project(tmp_path / "project")
    first = requested(str(space_file), tmp_path)
    code = tmp_path / "sweep" / "code"
    copy_code(first.loaded, code)
    again = requested(load_copy(code, "search_spaces/widths.py", dotted=False), tmp_path)
    assert again.space.builder.script_file == code / "train.py"
    assert space_record(again) == space_record(first)
    assert not space_record(first).has_test_split
    (code / "train.py").write_text(HEAD + WITH_FLAGS + "# changed\n")
    changed = requested(load_copy(code, "search_spaces/widths.py", dotted=False), tmp_path)
    assert space_record(changed).builder != space_record(first).builder


ADDS = """
from transformers import EarlyStoppingCallback, TrainerCallback

class Adds(TrainerCallback):
    def {event}(self, args, state, control, {metrics}, **_):
        {metrics}["eval_double"] = 2 * {metrics}.get("eval_loss", 0)

class Prints(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        print(state.global_step)

"""


@pytest.mark.parametrize(
    ("event", "metrics"), [("on_evaluate", "metrics"), ("on_log", "logs"), (None, None)]
)
def test_a_metric_that_a_callback_adds_is_not_refused(
    event: str | None, metrics: str | None, tmp_path: Path
):
    kind = "Adds" if event else "Prints"
    patience = "EarlyStoppingCallback(2)"
    made = "args = arguments(metric_for_best_model='eval_loss', greater_is_better=False)\n"
    made += f"make(args, callbacks=[{kind}(), {patience}]).train()"
    text = ADDS.format(event=event or "on_evaluate", metrics=metrics or "metrics") + made
    space = written(tmp_path, text)
    if event is None:
        assert space.builder.metric_names == ["eval_loss"]
        return
    assert space.builder.metric_names is None
    space = replace(space, metric="eval_double")
    reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    assert reports[-1].metrics["eval_double"] == 2 * reports[-1].metrics["eval_loss"]


def test_a_metric_that_a_replaced_evaluate_adds_is_not_refused(tmp_path: Path):
    text = """
trainer = make(arguments())
own = trainer.evaluate
trainer.evaluate = lambda *given, **named: {**own(*given, **named), "eval_one": 1.0}
trainer.train()
"""
    space = written(tmp_path, text)
    assert space.builder.metric_names is None


def test_the_libraries_of_an_installed_script_are_imported_before_the_first_job(tmp_path: Path):
    builder = Script("trl.scripts.sft").located([])
    space = SearchSpace(build_trainer=builder, metric="eval_loss", mode="min", tuned={})
    # The environment may lie below the working folder, and is not copied.
    loaded = LoadedSpace(space=space, name="-", file=None, root=Path("/"), folder=None)
    import_libraries(pickled(loaded, space), tmp_path / "code")
    assert "trl.trainer.sft_trainer" in sys.modules, "it is imported in a function"


def test_the_model_of_the_script_that_ran_before_is_freed_first(tmp_path: Path):
    text = "model = Net()\ndef f(): return model\nprint('made')\nmake(arguments()).train()"
    builder = written(tmp_path, text).build_trainer
    values = {"output_dir": str(tmp_path / "trial")}
    builder(values)
    before = weakref.ref(vars(sys.modules["__main__"])["model"])
    gc.disable()
    try:
        builder(values)
    finally:
        gc.enable()
    assert before() is None


def test_a_dry_run_stands_where_the_trials_will(tmp_path: Path):
    space_file = project(tmp_path / "project")
    reads = "\nopen('width.txt').close()\n"
    (tmp_path / "project" / "train.py").write_text(reads + HEAD + WITH_FLAGS)
    (tmp_path / "project" / "width.txt").touch()
    assert requested(str(space_file), tmp_path).space.builder.keywords == {"width", "rows"}


def test_an_unknown_flag_is_named_with_the_nearest(tmp_path: Path):
    space_file = project(tmp_path / "project")
    with pytest.raises(UserError) as raised:
        requested(str(space_file), tmp_path, "widht=3")
    assert raised.value.problems == [
        "widht: neither a field of TrainingArguments nor a flag of train.py; did you mean 'width'?"
    ]


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


@pytest.mark.parametrize(
    ("tuned", "fixed", "assignments", "names"),
    [
        ({"lr": (1e-5, 1e-4), "learning_rate": (1e-5, 1e-4)}, {}, [], "'lr' and 'learning_rate'"),
        ({"learning_rate": (1e-5, 1e-4)}, {"lr": 1e-4}, [], "'lr' and 'learning_rate'"),
        ({"lr": (1e-5, 1e-4)}, {}, ["learning_rate=1e-3"], "'lr' and 'learning_rate'"),
        ({"batch": (4, 16)}, {"total_train_batch_size": 8}, [], "'batch' and 'total_train_batch"),
        # An argument happens to have the value of a flag.
        ({"layers": (4, 8), "gradient_accumulation_steps": (4, 8)}, {}, [], None),
        ({"batch": (4, 8), "gradient_accumulation_steps": (4, 8)}, {}, [], None),
        ({"gradient_accumulation_steps": (4, 8)}, {"batch": 8}, [], None),
        ({"lr": (1e-5, 1e-4), "max_steps": (4, 8)}, {"layers": 4}, [], None),
    ],
)
def test_a_flag_beside_the_argument_that_the_script_takes_from_it_is_refused(
    tuned: dict[str, Any],
    fixed: dict[str, Any],
    assignments: list[str],
    names: str | None,
    tmp_path: Path,
):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + COPIED)
    space = SearchSpace(
        build_trainer=Script("train.py"),
        metric="eval_loss",
        mode="min",
        tuned={key: tune.choice(list(choices)) for key, choices in tuned.items()},
        fixed=fixed,
    )
    if names is None:
        assert requested(space, tmp_path, *assignments).space.tuned.keys() == tuned.keys()
        return
    with pytest.raises(UserError) as raised:
        requested(space, tmp_path, *assignments)
    (problem,) = raised.value.problems
    assert problem.startswith(names)
    assert problem.endswith("; keep one")


RENAMED = {
    "argparse": """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--layers", "--num-layers", type=int, default=2)
parser.add_argument("--lr", dest="learning_rate", type=float, default=1e-3)
options = parser.parse_args()
make(arguments(learning_rate=options.learning_rate)).train()
""",
    "click": """
import click

@click.command()
@click.option("--num-layers", "layers", default=2)
@click.option("--lr", "learning_rate", default=1e-3)
def main(layers, learning_rate):
    make(arguments(learning_rate=learning_rate)).train()

main()
""",
}


@pytest.mark.parametrize("parser", RENAMED)
def test_another_spelling_of_a_flag_is_answered_with_its_name(parser: str, tmp_path: Path):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + RENAMED[parser])
    tuned = {"num-layers": tune.choice([1, 2]), "lr": tune.choice([1e-3, 1e-2])}
    space = SearchSpace(
        build_trainer=Script("train.py"), metric="eval_loss", mode="min", tuned=tuned
    )
    with pytest.raises(UserError) as raised:
        requested(space, tmp_path)
    assert raised.value.problems == [
        "tuned['num-layers']: train.py calls this flag 'layers'; use that name",
        "tuned['lr']: train.py calls this flag 'learning_rate'; use that name",
    ]


LR, NUMBER, SEED = tune.loguniform(1e-4, 1e-2), tune.randint(2, 9), tune.randint(40, 50)
SCHEDULE = tune.choice(["linear", "cosine"])


@pytest.mark.parametrize(
    ("words", "tuned", "own"),
    [
        ([], {"lr": LR, "layers": tune.choice([4, 8])}, {"lr": 1e-3, "layers": 8}),
        (["--layers", "4", "--lr=2e-3"], {"layers": NUMBER}, {"layers": 4}),
        (
            [],
            {"learning_rate": LR, "layers": tune.randint(2, 9)},
            {"learning_rate": 1e-3, "layers": 8},
        ),
        (
            [],
            {"warmup_steps": tune.choice([0, 5]), "seed": tune.randint(40, 50)},
            {"warmup_steps": 0, "seed": 42},
        ),
        ([], {"total_train_batch_size": tune.choice([32, 64])}, {"total_train_batch_size": 64}),
        (
            [],
            {
                "lr_scheduler_type": tune.choice(["linear", "cosine"]),
                "lr": when({"lr_scheduler_type": "cosine"}, LR),
            },
            {"lr_scheduler_type": "linear"},
        ),
        ([], {"lr": tune.uniform(0.1, 0.2)}, "its own lr = 0.001 is outside uniform(0.1, 0.2)"),
        ([], {"optim": tune.choice(["sgd"])}, "is outside choice(['sgd'])"),
        ([], {"share": tune.choice([5, 25])}, "its own share is not known"),
        (
            [],
            {"gradient_checkpointing_kwargs.use_reentrant": tune.choice([True, False])},
            "use_reentrant is not known",
        ),
    ],
)
def test_the_baseline_is_the_script_as_it_stands_if_the_space_allows_it(
    words: list[str], tuned: dict[str, Any], own: dict[str, Any] | str, tmp_path: Path
):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + COPIED)
    space = SearchSpace(
        build_trainer=Script("train.py", *words), metric="eval_loss", mode="min", tuned=tuned
    )
    request = requested(space, tmp_path)
    if isinstance(own, str):
        assert list(request.space.first_params) == []
        assert request.lines[-1].startswith("there is no baseline trial of train.py")
        assert own in request.lines[-1]
        return
    assert request.space.first_params == [own]
    assert request.lines[-1].startswith("t001, the baseline, runs train.py with its own values: ")
    again = requested(space, tmp_path)  # with what the earlier dry run has found
    assert again.lines == request.lines


OWN_DEFAULTS = """
from dataclasses import dataclass, field
from pathlib import Path

@dataclass
class Mine(TrainingArguments):
    learning_rate: float = 3e-4
    per_device_train_batch_size: int = 4
    num_train_epochs: float = 7.0
    alpha: float = 0.5
    sizes: tuple = (4, 8)
    teacher: str | None = None
    files: list = field(default_factory=lambda: [Path("a")])

make(Mine("out", report_to="none")).train()
"""


@pytest.mark.parametrize(
    ("tuned", "own"),
    [
        ({"learning_rate": LR, "alpha": tune.uniform(0.1, 0.9)}, {"alpha": 0.5}),
        ({"learning_rate": LR, "total_train_batch_size": tune.choice([4, 8])}, None),
        ({"learning_rate": LR, "sizes": tune.choice([(2, 4), (4, 8)])}, {"sizes": [4, 8]}),
        ({"learning_rate": LR, "teacher": tune.choice([None, "large"])}, {"teacher": None}),
    ],
)
def test_the_baseline_has_the_defaults_of_the_scripts_own_argument_class(
    tuned: dict[str, Any], own: dict[str, Any] | None, tmp_path: Path
):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + OWN_DEFAULTS)
    space = SearchSpace(
        build_trainer=Script("train.py"), metric="eval_loss", mode="min", tuned=tuned
    )
    request = requested(space, tmp_path)
    expected = {"learning_rate": 3e-4, **(own or {"total_train_batch_size": 4})}
    assert request.space.first_params == [expected]
    assert request.space.builder.argument_values["num_train_epochs"] == 7.0, "rungs and plan use it"


def test_an_own_argument_whose_value_cannot_be_recorded_is_not_known(tmp_path: Path):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + OWN_DEFAULTS)
    space = SearchSpace(
        build_trainer=Script("train.py"),
        metric="eval_loss",
        mode="min",
        tuned={"files": tune.choice([["a"], ["b"]])},
    )
    assert requested(space, tmp_path).lines[-1].endswith("its own files is not known")


@pytest.mark.parametrize("parser", PARSERS)
def test_the_own_values_of_flags_are_known_whatever_parses_them(parser: str, tmp_path: Path):
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + MAIN + PARSERS[parser])
    words = ["train"] if "command" in parser else []
    flags = {"count": tune.randint(1, 9), "fast": tune.choice([True, False])}
    flags |= {"betas": tune.choice([[0.5, 0.75]]), "clip": tune.choice([True])}
    builder = tried("train.py", *words, folder=tmp_path / "runs", place=tmp_path, **flags)
    own = {"count": 64, "betas": [0.9, 0.999], "fast": False, "clip": True}
    assert builder.keyword_values == own


def test_a_script_that_is_not_there_or_cannot_go_along_is_named(tmp_path: Path):
    space_file = project(tmp_path / "project")
    space_file.write_text(SPACE.replace("train.py", "trian.py"))
    with pytest.raises(UserError, match=r"Script\('trian.py'\): no such script; looked in"):
        requested(str(space_file), tmp_path)
    with pytest.raises(UserError, match=r"; did you mean 'train\.py'\?$"):
        Script("trian.py").located([tmp_path / "project"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "train.py").write_text(HEAD)
    space_file.write_text(SPACE.replace("train.py", "../../elsewhere/train.py"))
    with pytest.raises(UserError, match="move the space into the script"):
        requested(str(space_file), tmp_path)
