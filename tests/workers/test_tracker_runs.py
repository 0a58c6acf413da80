"""A tracker that the builder switches on gets a run of each trial, though workers go on."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from ray import tune
from transformers import Trainer, TrainerCallback, TrainingArguments

from sweeps import SearchSpace
from sweeps.workers.tracker_runs import ENDS
from tests.workers.test_training import run_job


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Any, labels: Any) -> Any:
        return {"loss": (self.w * x - labels).square().mean(), "logits": self.w * x}


ROWS = [{"x": [1.0], "labels": [float(i % 2)]} for i in range(16)]


class OpenRun(TrainerCallback):
    """What the callbacks of HF do that keep the process's run open."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        if self.tracker.run is None:
            self.tracker.run = args.run_name
            self.tracker.began.append(args.run_name)


@pytest.mark.parametrize("name", ENDS)
def test_each_trial_has_a_run_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker: Any = ModuleType(name)
    tracker.run, tracker.began = None, []

    def end() -> None:
        if tracker.run is None:
            raise RuntimeError("no run is open")
        tracker.run = None

    setattr(tracker, ENDS[name], end)
    monkeypatch.setitem(sys.modules, name, tracker)

    def build(args: TrainingArguments, *, logs: bool = True) -> Trainer:
        callbacks: list[TrainerCallback] = [OpenRun(tracker)] if logs else []
        return Trainer(Net(), args, train_dataset=ROWS, eval_dataset=ROWS, callbacks=callbacks)

    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-1), "logs": tune.choice([True, False])},
        fixed={"max_steps": 2},
        evals_per_trial=2,
    )
    params = {"learning_rate": 0.1, "logs": True}
    for sweep in ("mine-1", "mine-2"):
        run_job(space, params, tmp_path / sweep)
    assert tracker.began == ["mine-1-t001", "mine-2-t001"]
    reports, _ = run_job(space, {**params, "logs": False}, tmp_path / "mine-3")
    assert len(reports) == 2, "a tracker that has nothing to end ends no trial"


def test_a_run_may_be_named_by_the_space(tmp_path: Path) -> None:
    named: list[str] = []

    def build(args: TrainingArguments) -> Trainer:
        named.append(args.run_name)
        return Trainer(Net(), args, train_dataset=ROWS, eval_dataset=ROWS)

    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-1)},
        fixed={"max_steps": 1, "run_name": "mine"},
        evals_per_trial=1,
    )
    run_job(space, {"learning_rate": 0.1}, tmp_path / "mine-1")
    assert named == ["mine"]
