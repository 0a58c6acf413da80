"""What is saved and loaded runs no code: weights are safetensors, and no pickle is trusted."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from sweeps import SearchSpace
from sweeps.answer.loading_back import from_pretrained
from sweeps.builders.base import TINY
from sweeps.builders.text_classification import TextClassification
from sweeps.errors import UserError
from sweeps.space.loading import load_space
from sweeps.workers.job import Reply
from tests.workers.test_training import run_job

ROOT = Path(__file__).parents[2]
PARAMS = {"learning_rate": 9e-5, "total_train_batch_size": 32, "warmup_steps": 0.0}
STOP = Reply("stop", save_best=False, save_state=False)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    shipped = load_space("bert_yelp").space
    assert isinstance(shipped.build_trainer, TextClassification)
    return replace(shipped, build_trainer=shipped.build_trainer.tiny())


@pytest.fixture(scope="module")
def saved(space: SearchSpace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of a state and of a best checkpoint, saved at the first gate."""
    folder = tmp_path_factory.mktemp("saved")
    both = Reply("continue", save_best=True, save_state=True)
    run_job(space, PARAMS, folder, lambda number: both if number == 1 else STOP)
    return {p.name.split("-")[0]: p for p in (folder / "checkpoints" / "t001").iterdir()}


def test_the_weights_are_safetensors_and_the_best_holds_no_pickle_and_no_model_card(
    saved: dict[str, Path],
):
    for folder in saved.values():
        weights = {f.name for f in folder.iterdir() if f.stat().st_size > 50_000}
        assert weights <= {"model.safetensors", "optimizer.pt", "tokenizer.json"}
        assert (folder / "model.safetensors").is_file()
        assert not list(folder.glob("pytorch_model*"))
    kinds = {file.suffix for file in saved["best"].rglob("*") if file.is_file()}
    assert kinds <= {".safetensors", ".json", ".txt"}


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_code_in_a_state_that_is_resumed_from_is_not_run(
    space: SearchSpace, saved: dict[str, Path], tmp_path: Path, name: str
):
    state = shutil.copytree(saved["checkpoint"], tmp_path / saved["checkpoint"].name)
    torch.save(Payload(tmp_path / "it ran"), state / name)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        run_job(space, PARAMS, tmp_path, lambda _: STOP, checkpoint=state.name)
    assert not (tmp_path / "it ran").exists()


def test_the_pickled_arguments_of_a_state_are_never_read(
    space: SearchSpace, saved: dict[str, Path], tmp_path: Path
):
    state = shutil.copytree(saved["checkpoint"], tmp_path / saved["checkpoint"].name)
    torch.save(Payload(tmp_path / "it ran"), state / "training_args.bin")
    run_job(space, PARAMS, tmp_path, lambda _: STOP, checkpoint=state.name)
    assert not (tmp_path / "it ran").exists()


# Code that comes with a model.


@pytest.fixture
def model_with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder with its own Python, and somebody who says yes when asked to run it."""
    folder = shutil.copytree(TINY / "model", tmp_path / "model")
    (folder / "theirs.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'it ran')!r})\n"
        "from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast\n"
        "class Config(BertConfig): model_type = 'theirs'\n"
        "class Model(BertForSequenceClassification): config_class = Config\n"
        "class Tokenizer(BertTokenizerFast): pass\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "theirs"
    config["auto_map"] = {
        "AutoConfig": "theirs.Config",
        "AutoModelForSequenceClassification": "theirs.Model",
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["tokenizer_class"] = "Tokenizer"
    tokenizer["auto_map"] = {"AutoTokenizer": [None, "theirs.Tokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    monkeypatch.setattr("builtins.input", lambda _: "y")
    return folder


def test_the_code_of_a_model_is_never_run_and_nobody_is_asked(
    model_with_code: Path, tmp_path: Path
):
    builder = TextClassification(model=str(TINY / "model"), dataset=str(TINY / "dataset"))
    data = builder.prepare()
    theirs = replace(builder, model=str(model_with_code))
    args = TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True, report_to="none")
    attempts: list[Callable[[], Any]] = [
        theirs.prepare,
        lambda: theirs(args, data=data),
    ]
    for attempt in attempts:
        with pytest.raises((ValueError, UserError), match="contains custom code"):
            attempt()
    assert from_pretrained(model_with_code) is None, "as for a model class of the user's own"
    assert not (tmp_path / "it ran").exists()


def test_no_line_of_ours_trusts_remote_code_but_by_a_builders_own_field():
    trusting = [
        f"{file.relative_to(ROOT)}:{keyword.lineno}"
        for file in (ROOT / "sweeps").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "trust_remote_code"
        and ast.unparse(keyword.value) not in ("False", "self.trust_remote_code")
    ]
    assert trusting == []
