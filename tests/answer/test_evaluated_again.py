"""An exported folder is evaluated again: what every kind of builder trained, and what does not fit.

Each model is trained in this process, and evaluated in it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from sweeps.answer import export
from sweeps.answer.export import export_checkpoint
from sweeps.answer.model_process import ask
from sweeps.answer.results import Results
from sweeps.config import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import SweepError
from sweeps.records.events import SweepStarted
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.readings import count_test_reads
from sweeps.records.row_values import row_values
from tests.builders.scripts.scripted import forked_dry_runs, process
from tests.conftest import TINY
from tests.trained_sweep import examined_here, trained_sweep

__all__ = ["forked_dry_runs", "process"]

SCRIPTS = Path(__file__).parents[1] / "scripts" / "unchanged"
SPACE = """
import dataclasses
from ray import tune
from sweeps import CausalLM, SearchSpace, TextClassification, TokenClassification
from sweeps.builders.scripts.script import Script


def tiny(builder):
    return dataclasses.replace(builder.tiny(), eval_rows=32)


SEARCH_SPACE = SearchSpace(
    build_trainer={builder},
    metric="eval_loss",
    mode="min",
    tuned={{"learning_rate": tune.loguniform(1e-5, 1e-1)}},
    fixed={{"max_steps": 8, "warmup_steps": 0}},
    evals_per_trial=1,
)
"""
KINDS = {
    "text classification": 'tiny(TextClassification(model="m", dataset="d"))',
    "tokens": 'tiny(TokenClassification(model="m", dataset="d"))',
    "causal LM": 'tiny(CausalLM(model="m", dataset="d"))',
    "LoRA": 'tiny(CausalLM(model="m", dataset="d", lora_rank=8, lora_alpha=512))',
    "a script": 'Script("tutorial.py")',
}
HARDLY_TRAINED = "LoRA that hardly learned"
BUILDERS = {
    **KINDS,
    HARDLY_TRAINED: 'tiny(CausalLM(model="m", dataset="d", lora_rank=2, lora_alpha=1))',
    "classification with a test split": f"""TextClassification(
        model={str(TINY / "model")!r}, dataset="data", max_tokens=32, eval_rows=32
    )""",
    "causal LM with a test split": f"""CausalLM(
        model={str(TINY / "causal_model")!r}, dataset="data", block_tokens=32, eval_rows=32
    )""",
}
PARAMS = {"learning_rate": 2e-2}

Made = Callable[[str], Results]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """The sweeps of this module, by kind, as far as they were asked for."""
    return {}


@pytest.fixture
def make(
    trained: dict[str, Results],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Made:
    """A sweep over a kind of builder, with one trial whose report is saved."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TUTORIAL", str(TINY))
    examined_here(monkeypatch)

    def made(kind: str) -> Results:
        if kind not in trained:
            place = tmp_path_factory.mktemp("evaluated")
            folder = SweepFolder(place / "results" / "mine-20261128-0741-k3f9")
            shutil.copy2(SCRIPTS / "tutorial.py", place)
            shutil.copytree(TINY / "dataset", place / "data")
            rows = Dataset.from_parquet(str(place / "data" / "validation.parquet"))
            names = sorted(set(rows["label"]))
            turned = rows.map(lambda row: {"label": names[1 - names.index(row["label"])]})
            turned.to_parquet(str(place / "data" / "test.parquet"))
            (place / "mine.py").write_text(SPACE.format(builder=BUILDERS[kind]))
            config = SweepConfig(storage=str(folder.path.parent))
            request = make_request(str(place / "mine.py"), config, base=place)
            trained[kind] = trained_sweep(request, folder, PARAMS, best=1)
        return trained[kind]

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_does_again_what_its_trial_reported(
    kind: str, make: Made, tmp_path: Path
) -> None:
    results = make(kind)
    said: list[str] = []
    told = export_checkpoint(results, tmp_path / "out", note=said.append)
    assert told["evaluated_again"]["value"] == pytest.approx(told["value"], rel=1e-5)
    assert told["evaluated_again"]["tolerances"] == {"eval_loss": 1e-5}
    values = row_values(results.history.trials["t001"].reports[0])
    assert values is not None
    assert values.mean() == pytest.approx(told["value"], rel=1e-3)
    assert json.loads((tmp_path / "out" / "provenance.json").read_text()) == told
    assert said == ["evaluating the exported model on the held-out rows"]


def test_a_merged_adapter_is_evaluated_as_the_model_that_it_became(
    make: Made, tmp_path: Path
) -> None:
    told = export_checkpoint(make("LoRA"), tmp_path / "out", merge=True)
    assert told["evaluated_again"]["value"] == pytest.approx(told["value"], rel=1e-5)
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_what_counts_is_where_the_trial_was_evaluated(make: Made, tmp_path: Path) -> None:
    results = make("causal LM")
    later = SweepStarted(sweep=results.folder.id, devices="H100")
    history = History(*results.record.judged_by)
    for event in (*results.events, later):
        history.apply(event)
    resumed = replace(results, history=history, events=[*results.events, later])
    told = export_checkpoint(resumed, tmp_path / "out")
    assert told["evaluated_again"]["tolerances"] == {"eval_loss": 1e-5}


@pytest.fixture
def zeroed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights that an export copies become 0."""
    own = shutil.copytree

    def copy(source: Path, target: Path, **options: Any) -> Path:
        own(source, target, **options)
        for file in target.glob("*.safetensors"):
            zeros = {name: torch.zeros_like(each) for name, each in load_file(file).items()}
            save_file(zeros, file, {"format": "pt"})
        return target

    monkeypatch.setattr(export.shutil, "copytree", copy)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_with_zeroed_weights_fails_with_both_numbers_and_leaves_nothing(
    kind: str, make: Made, tmp_path: Path, zeroed: None
) -> None:
    results = make(kind)
    with pytest.raises(SweepError) as raised:
        export_checkpoint(results, tmp_path / "out")
    reported = results.history.trials["t001"].reports[0].metrics["eval_loss"]
    said = str(raised.value)
    assert said.startswith(
        "the exported model does not match what t001 reported: evaluated again, its"
    )
    assert f"not {reported:.8g} (a difference of 0.001% is allowed)" in said
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_does_nothing_is_seen_where_its_base_model_is_about_as_good(
    make: Made, tmp_path: Path, zeroed: None
) -> None:
    results = make(HARDLY_TRAINED)
    with pytest.raises(SweepError, match="evaluated again, its eval_loss is") as raised:
        export_checkpoint(results, tmp_path / "out")
    found, reported = map(float, re.findall(r"\d\.\d+", str(raised.value))[:2])
    assert found == pytest.approx(reported, rel=0.01)


def test_rows_that_are_not_here_are_said_with_what_exports_it_nevertheless(
    make: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make("a script")
    monkeypatch.setenv("TUTORIAL", "/no/such/rows")
    with pytest.raises(SweepError) as raised:
        export_checkpoint(results, tmp_path / "out")
    said = str(raised.value)
    assert said.startswith("cannot evaluate the exported model again: ")
    assert said.endswith("\n  to export it without this check, pass --no-evaluate")
    assert not (tmp_path / "out").exists()
    told = export_checkpoint(results, tmp_path / "out", evaluate=False)
    why = "it was exported with --no-evaluate"
    assert told["evaluated_again"] == {"value": None, "why_not": why}


def test_the_test_split_is_evaluated_only_when_asked_and_each_reading_counts(
    make: Made, tmp_path: Path
) -> None:
    results = make("classification with a test split")
    told = export_checkpoint(results, tmp_path / "out")
    assert told["test"] == {"value": None, "reads": 0}
    for reads in (1, 2):
        told = export_checkpoint(results, tmp_path / f"out{reads}", test=True)
        test, again = told["test"], told["evaluated_again"]
        assert test["reads"] == reads
        assert test["metrics"]["eval_accuracy"] != again["metrics"]["eval_accuracy"]
    assert test["value"] == test["metrics"]["eval_loss"] != told["value"]
    card = ModelCard.load(tmp_path / "out2" / "README.md")
    assert "on the test split (exports of this sweep have read it 2 times): **" in card.text
    assert card.data.eval_results is None, "a folder is not a dataset of the Hub"
    told = export_checkpoint(results, tmp_path / "later", evaluate=False)
    assert told["test"] == {"value": None, "reads": 2}


def test_blocks_of_the_test_split_are_cut_as_those_of_the_held_out_rows(
    make: Made, tmp_path: Path
) -> None:
    told = export_checkpoint(make("causal LM with a test split"), tmp_path / "out", test=True)
    assert told["test"]["value"] == pytest.approx(told["value"], rel=0.05), "texts of the same kind"
    assert told["test"]["value"] != told["value"], "all rows of it, not as many as were held out"


def test_a_reading_of_the_test_split_counts_on_every_machine(make: Made, tmp_path: Path) -> None:
    results = make("causal LM with a test split")
    folder = SweepFolder(results.folder.path, tmp_path.as_uri())
    (tmp_path / folder.id).mkdir()
    before = count_test_reads(results.folder)
    trial = results.history.trials["t001"]
    saved = folder.path / trial.checkpoints["best"].path
    ask(folder, results.record, trial, saved, rows="test")
    elsewhere = SweepFolder(tmp_path / "elsewhere" / folder.id, folder.storage)
    assert count_test_reads(elsewhere) == before + 1


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("tokens", "cannot evaluate the model on the test split: TokenClassification: dataset='"),
        ("a script", "--test: sweeps does not know the test rows: only a builder class"),
    ],
)
def test_without_a_test_split_nothing_is_counted_and_nothing_exported(
    kind: str, why: str, make: Made, tmp_path: Path
) -> None:
    results = make(kind)
    with pytest.raises(SweepError) as raised:
        export_checkpoint(results, tmp_path / "out", evaluate=False, test=True)
    assert str(raised.value).startswith(why)
    assert list(tmp_path.iterdir()) == []
    told = export_checkpoint(results, tmp_path / "out", evaluate=False)
    assert told["test"] == {"value": None, "reads": 0}
