"""`docs/your_own_script.md`: each file on it is a space that trains on the tiny model and data."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.records.folder import SweepFolder
from sweeps.search.definition import make_request
from sweeps.space.arguments import Devices
from sweeps.space.report import Report
from sweeps.workers.job import Answer, Job
from sweeps.workers.training import train
from tests.conftest import TINY

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "your_own_script.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->", PAGE)
GO = Answer(stop=False, save_best=False, save_state=False)
HERE = {
    "hf_script.py": [f"model={TINY}/model", f"dataset={TINY}/dataset"],
    "train_func.py": [f"model={TINY}/model", f"dataset={TINY}/many"],
    "trainer_init.py": [f"model={TINY}/causal_model", f"dataset={TINY}/dataset", "name=None"],
    "images.py": [],
}
"""What takes the place of Hub names, by file."""


def run(file: str, tmp_path: Path, params: dict[str, Any], *assignments: str) -> list[Report]:
    """The reports of one trial in this process, with accumulation, as `run FILE` makes it."""
    words = [word.replace(f"{TINY}/many", many(tmp_path)) for word in HERE[Path(file).name]]
    space = make_request(str(DOCS / file), SweepConfig(), assignments=[*words, *assignments]).space
    reports: list[Report] = []
    train(
        space,
        Job(trial="t001", attempt=1, params=params, checkpoint=None),
        devices=Devices(workers=1, gpu=False, bf16=False),
        folder=SweepFolder(tmp_path / "results" / "sweep"),
        seed=0,
        send=reports.append,
        ask=lambda _: GO,
        announce=lambda _: None,
    )
    return reports


def many(tmp_path: Path) -> str:
    """The 2,000 rows that the guide's script draws."""
    from datasets import Dataset, concatenate_datasets

    rows = Dataset.from_parquet(str(TINY / "dataset" / "train.parquet"))
    (tmp_path / "many").mkdir(exist_ok=True)
    concatenate_datasets([rows] * 4).to_parquet(tmp_path / "many" / "train.parquet")
    return str(tmp_path / "many")


def test_the_page_shows_the_files_as_they_are() -> None:
    sys.path.insert(0, str(DOCS.parent / "scripts"))
    from show_examples import with_files

    assert sorted(Path(file).name for file in FILES) == sorted(HERE)
    assert with_files(PAGE) == PAGE


@pytest.mark.parametrize("file", [f for f in FILES if not f.endswith("images.py")])
def test_each_file_is_a_space_that_trains(file: str, tmp_path: Path) -> None:
    short = ["max_steps=4", "per_device_train_batch_size=4", "gradient_accumulation_steps=2"]
    reports = run(file, tmp_path, {"learning_rate": 1e-3}, *short)
    assert [report.number for report in reports] == [1, 2, 3, 4]
    metric = "eval_loss" if file.endswith("trainer_init.py") else "eval_accuracy"
    assert all(metric in report.metrics for report in reports)


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


def test_without_its_cure_a_script_with_accumulation_is_stopped_and_told(
    tmp_path: Path,
) -> None:
    from sweeps.errors import UserError

    script = (DOCS / "examples" / "hf_script.py").read_text()
    assert script.count("network.accepts_loss_kwargs = False") == 1
    copy = tmp_path / "script.py"
    copy.write_text(script.replace("network.accepts_loss_kwargs = False", "pass"))
    HERE["script.py"] = HERE["hf_script.py"]
    short = ["max_steps=4", "per_device_train_batch_size=4", "gradient_accumulation_steps=2"]
    with pytest.raises(UserError, match="BertForSequenceClassification 2 times too large"):
        run(str(copy), tmp_path, {"learning_rate": 1e-3}, *short)
