"""A script as a builder: its trials equal the plain script with the same values to the last bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune

from sweeps import SearchSpace
from sweeps.builders.script import Script
from sweeps.builders.script_run import UNSEEDED
from sweeps.report import Report
from sweeps.workers import isolation
from tests.conftest import TINY
from tests.workers.test_training import run_job

SCRIPTS = Path(__file__).parents[1] / "scripts"
CLOCKS = ("runtime", "per_second", "epoch", "model_preparation_time")
SHORT = ("--max_steps", "8", "--eval_strategy", "steps", "--eval_steps", "2", "--do_eval")


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What the worker loop does around each job."""
    baseline = isolation.take_baseline()
    yield
    isolation.restore(baseline)


@pytest.fixture(autouse=True)
def tutorial_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORIAL", str(TINY))


def question_rows(folder: Path) -> Path:
    from datasets import Dataset

    folder.mkdir()
    words = "the food was good and my room was really slow".split()
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


def space_of(script: str, *words: str, metric: str = "eval_loss", **changes: Any) -> SearchSpace:
    builder = Script(script, *words).located([SCRIPTS])
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
    seed = 7 if script == "lora_click.py" else 42
    expected = plain(script, [*words, *flags], tmp_path)
    reports, _ = run_job(space_of(script, *words, fixed={"seed": seed}), params, tmp_path / "sweep")
    evaluations = [plainly(entry) for entry in expected if "eval_loss" in entry][:4]
    assert len(evaluations) == 4
    assert reported(reports) == evaluations
    assert evaluations[0]["eval_loss"] != evaluations[3]["eval_loss"], "it trains"
