"""`docs/your_own_script.md`: each file on it is a space that trains on the tiny model and data."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.report import Report
from tests.conftest import TINY
from tests.workers.test_training import numbers, run_job

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "your_own_script.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->", PAGE)
HERE = {
    "hf_script.py": [f"model={TINY}/model", f"dataset={TINY}/dataset"],
    "train_func.py": ["model={guide}/model", "dataset={guide}/data"],
    "trainer_init.py": [f"model={TINY}/causal_model", f"dataset={TINY}/dataset", "name=None"],
    "images.py": [],
    "shipped.py": [f"model={TINY}/model", f"dataset={TINY}/dataset"],
}
"""What takes the place of Hub names, by file."""


def run(file: str, tmp_path: Path, params: dict[str, Any], *assignments: str) -> list[Report]:
    """The reports of one trial in this process, with accumulation, as `run FILE` makes it."""
    words = [word.format(guide=for_the_guide(tmp_path)) for word in HERE[Path(file).name]]
    space = make_request(str(DOCS / file), SweepConfig(), assignments=[*words, *assignments]).space
    return run_job(space, params, tmp_path / "results" / "sweep")[0]


def for_the_guide(tmp_path: Path) -> Path:
    """The 2,000 rows that the guide's script draws, and a model for texts as short as they are."""
    from datasets import Dataset, concatenate_datasets

    folder = tmp_path / "guide"
    if not folder.exists():
        shutil.copytree(TINY / "model", folder / "model")
        config = folder / "model" / "tokenizer_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_max_length": 32}))
        rows = Dataset.from_parquet(str(TINY / "dataset" / "train.parquet"))
        (folder / "data").mkdir()
        concatenate_datasets([rows] * 4).to_parquet(folder / "data" / "train.parquet")
    return folder


def test_the_page_shows_the_files_as_they_are() -> None:
    sys.path.insert(0, str(DOCS.parent / "scripts"))
    from show_examples import with_files

    assert sorted(Path(file).name for file in FILES) == sorted(HERE)
    assert with_files(PAGE) == PAGE


@pytest.mark.parametrize("file", [f for f in FILES if not f.endswith(("images.py", "shipped.py"))])
def test_each_file_is_a_space_that_trains(file: str, tmp_path: Path) -> None:
    short = ["max_steps=4", "per_device_train_batch_size=4", "gradient_accumulation_steps=2"]
    reports = run(file, tmp_path, {"learning_rate": 1e-3}, *short)
    assert [report.number for report in reports] == [1, 2, 3, 4]
    metric = "eval_loss" if file.endswith("trainer_init.py") else "eval_accuracy"
    assert all(metric in report.metrics for report in reports)


def test_a_shipped_builder_is_bent_by_a_subclass_or_a_function_alike(tmp_path: Path) -> None:
    """Both build the same trainer; the function prepares its data where it runs."""
    file = next(file for file in FILES if file.endswith("shipped.py"))
    params = {"learning_rate": 1e-3, "dropout": 0.2}
    words = [*HERE["shipped.py"], "max_steps=4"]
    space = make_request(str(DOCS / file), SweepConfig(), assignments=words).space
    of_class, _ = run_job(space, params, tmp_path / "class" / "sweep")
    wrap = sys.modules["sweeps_space_shipped"].with_dropout
    fixed = {**space.fixed, "model": f"{TINY}/model", "dataset": f"{TINY}/dataset"}
    wrapped = replace(space, build_trainer=wrap, fixed=fixed)
    of_function, _ = run_job(wrapped, params, tmp_path / "function" / "sweep")
    assert numbers(of_function) == numbers(of_class)
    bare, _ = run_job(space, {**params, "dropout": 0.0}, tmp_path / "bare" / "sweep")
    assert numbers(bare) != numbers(of_class), "the dropout is used"


def test_a_tiny_image_classifier_is_tuned_as_any_other(tmp_path: Path) -> None:
    file = next(file for file in FILES if file.endswith("images.py"))
    best = {
        rate: max(
            report.metrics["eval_accuracy"]
            for report in run(file, tmp_path, {"learning_rate": rate, "layers": 1})
        )
        for rate in (1e-5, 3e-3)
    }
    assert best[3e-3] > 0.9
    assert best[1e-5] < 0.8


def test_a_script_with_accumulation_trains_as_with_the_whole_batch(tmp_path: Path) -> None:
    file = next(file for file in FILES if file.endswith("hf_script.py"))
    losses = []
    for i, (rows, steps) in enumerate(((8, 1), (4, 2))):
        sizes = [f"per_device_train_batch_size={rows}", f"gradient_accumulation_steps={steps}"]
        dropout = ["max_steps=3", "logging_steps=1"]
        (tmp_path / str(i)).mkdir()
        reports = run(file, tmp_path / str(i), {"learning_rate": 1e-5}, *sizes, *dropout)
        losses.append([entry.loss for report in reports for entry in report.log_entries])
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=0.1), "up to dropout; not twice as large"
