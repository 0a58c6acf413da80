"""Requests for the tests of planning, and the warnings about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune
from transformers import TrainingArguments

from sweeps import SearchSpace, SweepConfig, TextClassification
from sweeps.builders.base import TINY
from sweeps.driver.requests.new_request import make_request
from sweeps.planning.request import Request
from sweeps.planning.warnings import find_warnings


def build(args: TrainingArguments, *, model: str = "none", eval_split: str = "dev") -> None: ...


def request(tmp_path: Path | None = None, config: Any = None, **changes: Any) -> Request:
    whole: dict[str, Any] = {
        "build_trainer": build,
        "metric": "eval_loss",
        "mode": "min",
        "tuned": {"learning_rate": tune.loguniform(1e-5, 1e-3)},
    }
    return make_request(SearchSpace(**whole | changes), SweepConfig(**(config or {})))


def doubtful(nodes: int = 1, config: Any = None, gpu: bool = False, **changes: Any) -> list[str]:
    found = find_warnings(request(config=config, **changes), nodes, gpu=gpu)
    return [line for line in found if "uncommitted" not in line]


def reviews(folder: Path, train: int, judged: int) -> TextClassification:
    for split, rows in (("train", train), ("validation", judged)):
        lines = "".join(f"text {i},{i % 2}\n" for i in range(rows))
        (folder / f"{split}.csv").write_text(f"text,label\n{lines}")
    return TextClassification(model=str(TINY / "model"), dataset=str(folder), max_tokens=16)


SCRIPT = """
from ray import tune
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments
from sweeps import SearchSpace
def build(args: TrainingArguments):
    data = {"train": [], "test": []}
    return Trainer(
        args=args,
        eval_dataset=data["test"],
        callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
    )
SEARCH_SPACE = SearchSpace(build_trainer=build, metric="eval_loss", mode="min",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)})
"""
