"""A dry run finds out what a script would train, and refuses what cannot be tuned."""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.builders.scripts.script import Script
from sweeps.errors import UserError
from sweeps.space.arguments import argument_fields
from sweeps.space.checks import check_space
from tests.builders.scripts.scripted import (
    HEAD,
    NET,
    SPACE,
    WITH_FLAGS,
    project,
    requested,
    tried,
    written,
)
from tests.workers.test_training import run_job


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


def refused(folder: Path, text: str) -> str:
    with pytest.raises(UserError) as raised:
        written(folder, text)
    return str(raised.value)


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
            "make(arguments()).train('elsewhere/checkpoint-3'): the training would resume from"
            " elsewhere/checkpoint-3, but every trial must start at step 0",
        ),
        (
            "args = arguments(resume_from_checkpoint='elsewhere/checkpoint-3')\n"
            "make(args).train(resume_from_checkpoint=args.resume_from_checkpoint)",
            "would resume from elsewhere/checkpoint-3, but every trial must start at step 0",
        ),
        (
            "args = arguments()\nargs.resume_from_checkpoint = 'out/checkpoint-3'  # HERE\n"
            "make(args).train(resume_from_checkpoint=args.resume_from_checkpoint)",
            "# HERE: the training would resume from out/checkpoint-3",
        ),
        (
            "import transformers\n"
            "parser = transformers.HfArgumentParser(TrainingArguments)\n"
            "words = ['--output_dir', 'out', '--resume_from_checkpoint', 'out/checkpoint-3']\n"
            "(args,) = parser.parse_args_into_dataclasses(words)\n"
            "make(args).train(resume_from_checkpoint=args.resume_from_checkpoint)",
            "parse_args_into_dataclasses(words): the training would resume from out/checkpoint-3",
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


FIT = "def fit(seed=0, kind=Trainer):\n    make(arguments(seed=seed), kind).train()\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("for fold in range(3):\n    make(arguments()).train()", "for fold in range(3):"),
        ("while True:\n    make(arguments()).train()", "while True:"),
        (
            "trainer = make(arguments())\ntrainer.train()\ntrainer.train()  # again",
            "trainer.train()  # again",
        ),
        (
            "class Mine(Trainer):\n    pass\nfirst = make(arguments())\nfirst.train()\n"
            "second = Mine(Net(), arguments(), train_dataset=rows(8))\nsecond.train()  # again",
            "second.train()  # again",
        ),
        (
            "make(arguments()).train()\n"
            "Trainer(Net(), arguments(), train_dataset=rows(8)).train()  # again",
            "# again",
        ),
        (
            "trainer = make(arguments())\ntry:\n    trainer.train()\nfinally:\n"
            "    trainer.train()  # again",
            "trainer.train()  # again",
        ),
        (FIT + "for seed in (1, 2):\n    fit(seed)", "for seed in (1, 2):"),
        (FIT + "fits = [fit(seed) for seed in (1, 2)]", "fits = [fit(seed)"),
        (FIT + "fit(1)\nfit(2)  # again", "fit(2)  # again"),
        (
            "def run(trainer):\n    if trainer:\n        trainer.train()\n"
            "    trainer.train()  # again\nrun(make(arguments()))",
            "trainer.train()  # again",
        ),
    ],
)
def test_a_script_that_trains_more_than_once_is_refused(text: str, line: str, tmp_path: Path):
    message = refused(tmp_path, text)
    assert "the script trains more than once (its first train() is on line" in message
    assert line in message.split(": the script trains")[0]


@pytest.mark.parametrize(
    "text",
    [
        "if not trainer:\n    trainer.train('elsewhere')\nelse:\n    trainer.train()",
        "if trainer:\n    trainer.train()\nelse:\n    trainer.train('elsewhere')",
        "try:\n    trainer.train()\nexcept ValueError:\n    trainer.train('elsewhere')",
        "def run():\n    if trainer:\n        trainer.train()\n        return\n"
        "    trainer.train()\nrun()",
        "while True:\n    try:\n        trainer.train()\n        break\n    except ValueError:\n"
        "        pass",
        "trainer.train()\ntrainer.model.train()\nmodel = trainer.model\nmodel.train()",
        "trainer.train()\ndef later():\n    trainer.train()",
        "for _ in range(3):\n    pass\nelse:\n    trainer.train()",
        "match 1:\n    case 1:\n        trainer.train()\n    case 2:\n        trainer.train()",
        "def first():\n    for _ in range(2):\n        print()\n    trainer.train()\nfirst()",
    ],
)
def test_a_script_that_calls_train_in_one_of_several_places_is_tuned(text: str, tmp_path: Path):
    space = written(tmp_path, "trainer = make(arguments())\n" + text)
    assert space.builder.argument_values["max_steps"] == 8


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


def test_a_dry_run_stands_where_the_trials_will(tmp_path: Path):
    space_file = project(tmp_path / "project")
    reads = "\nopen('width.txt').close()\n"
    (tmp_path / "project" / "train.py").write_text(reads + HEAD + WITH_FLAGS)
    (tmp_path / "project" / "width.txt").touch()
    assert requested(str(space_file), tmp_path).space.builder.keywords == {"width", "rows"}


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


def test_a_dry_run_starts_no_run_in_the_trackers_of_the_script(tmp_path: Path):
    store = tmp_path / "runs.db"
    text = f"""
import os, mlflow
assert os.environ["WANDB_MODE"] == "disabled"
mlflow.set_tracking_uri("sqlite:///{store}")
mlflow.set_experiment("reviews")
with mlflow.start_run():
    mlflow.log_param("note", "hello")
    make(arguments()).train()
"""
    assert written(tmp_path, text).builder.argument_values["max_steps"] == 8
    assert not store.exists()


def test_a_with_block_around_train_is_named(tmp_path: Path):
    text = """
import contextlib
def fit():
    with contextlib.nullcontext() as one, contextlib.suppress(ValueError):
        make(arguments()).train()
with contextlib.nullcontext():
    pass
fit()
"""
    written(tmp_path, text)
    said = list[str]()
    found = Script("train.py").located([tmp_path])
    found.tried({}, base=Path.cwd(), kept=tmp_path / "dry_runs", note=said.append)
    line = (HEAD + text).split("\n").index(
        "    with contextlib.nullcontext() as one, contextlib.suppress(ValueError):"
    ) + 1
    assert said[1:] == [
        f"train.py: line {line}: with contextlib.nullcontext() as one,"
        " contextlib.suppress(ValueError): train() is inside this block, whose end does not run in"
        " a trial; sweeps ends a tracker's run with the trial"
    ]


def test_each_evaluation_set_has_its_rows(tmp_path: Path):
    sets = "{'dev': rows(16), 'other': rows(8)}"
    text = f"Trainer(Net(), arguments(), train_dataset=rows(64), eval_dataset={sets}).train()"
    builder = written(tmp_path, text).builder
    assert (builder.count_rows(), builder.eval_sets) == ((64, 24), {"dev": 16, "other": 8})


@pytest.mark.parametrize(
    ("needs", "problem"),
    [
        (
            "import sys\nsys.path.insert(0, str(above / 'src'))\nimport reviews",
            "ModuleNotFoundError: No module named 'reviews'; trials run a copy of the script's"
            " folder, which does not include {above}/src; set PYTHONPATH={above}/src",
        ),
        (
            "print((above / 'src' / 'reviews.py').read_text())",
            "which does not include {above}/src/reviews.py; use the path {above}/src/reviews.py",
        ),
    ],
    ids=["module", "file"],
)
def test_a_dry_run_misses_what_the_trials_would_miss(needs: str, problem: str, tmp_path: Path):
    """Only the folder of the script is copied, and trials run the copy."""
    space_file = project(tmp_path / "project")
    script, source = tmp_path / "project" / "train.py", tmp_path / "src"
    source.mkdir()
    (source / "reviews.py").touch()
    above = "from pathlib import Path\nabove = Path(__file__).resolve().parents[1]\n"
    script.write_text(above + needs + HEAD + WITH_FLAGS)
    with pytest.raises(UserError) as raised:
        requested(str(space_file), tmp_path)
    assert problem.format(above=tmp_path) in str(raised.value)
    assert str(raised.value).startswith(f"{script}: line ")


def test_a_dry_run_names_the_folder_of_the_script_and_not_its_copy(tmp_path: Path):
    space_file = project(tmp_path / "project")
    text = WITH_FLAGS.replace("arguments()", "arguments(hub_model_id=__file__)")
    (tmp_path / "project" / "train.py").write_text(HEAD + text)
    builder = requested(str(space_file), tmp_path).space.builder
    assert builder.argument_values["hub_model_id"] == str(tmp_path / "project" / "train.py")
