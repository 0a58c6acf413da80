"""A tracker that the builder switches on gets a run of each trial, though workers go on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from ray import tune
from transformers import Trainer, TrainerCallback, TrainingArguments

from sweeps import SearchSpace
from sweeps.records.folder import SweepFolder
from sweeps.workers.tracker_runs import ENDS
from tests.workers.test_smoke_run import run_smoke
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
            self.tracker.start(args.run_name)


class Tracker(ModuleType):
    """A tracker with one open run per process, or with nested ones."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.open: list[str] = []
        self.began: list[str] = []
        if name == "mlflow":
            self.active_run = lambda: self.open[-1] if self.open else None
            self.end_run = self.close
        elif name == "clearml":
            task = SimpleNamespace(close=self.close)
            self.Task = SimpleNamespace(current_task=lambda: task if self.open else None)
        else:
            setattr(self, {"comet_ml": "end"}.get(name, "finish"), self.close)

    @property
    def run(self) -> str | None:
        return self.open[-1] if self.open else None

    def start(self, name: str, nested: bool = False) -> None:
        if self.open and not nested:
            raise RuntimeError(f"run {self.open[-1]} is already active")
        self.open.append(name)
        self.began.append(name)

    def close(self) -> None:
        if not self.open:
            raise RuntimeError("no run is open")
        self.open.pop()


@pytest.fixture(params=ENDS)
def tracker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    tracker = Tracker(request.param)
    monkeypatch.setitem(sys.modules, request.param, tracker)
    return tracker


def space_of(build: Callable[..., Trainer], **tuned: Any) -> SearchSpace:
    return SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-1), **tuned},
        fixed={"max_steps": 2},
        evals_per_trial=2,
    )


def test_each_trial_has_a_run_of_its_own(tracker: Tracker, tmp_path: Path) -> None:
    def build(args: TrainingArguments, *, logs: bool = True) -> Trainer:
        callbacks: list[TrainerCallback] = [OpenRun(tracker)] if logs else []
        return Trainer(Net(), args, train_dataset=ROWS, eval_dataset=ROWS, callbacks=callbacks)

    space = space_of(build, logs=tune.choice([True, False]))
    params = {"learning_rate": 0.1, "logs": True}
    for sweep in ("mine-1", "mine-2"):
        run_job(space, params, tmp_path / sweep)
    assert tracker.began == ["mine-1-t001", "mine-2-t001"]
    reports, _ = run_job(space, {**params, "logs": False}, tmp_path / "mine-3")
    assert len(reports) == 2, "a tracker that has nothing to end ends no trial"


@pytest.mark.parametrize("tracker", ["mlflow"], indirect=True)
def test_a_run_that_the_builder_opens_is_ended_after_each_part_of_the_smoke_run_and_each_trial(
    tracker: Tracker, tmp_path: Path
) -> None:
    def build(args: TrainingArguments) -> Trainer:
        tracker.start(str(args.run_name))
        tracker.start(f"{args.run_name}, inner", nested=True)
        return Trainer(Net(), args, train_dataset=ROWS, eval_dataset=ROWS)

    space = space_of(build)
    run_smoke(space, SweepFolder(tmp_path / "mine-0"), {"learning_rate": 0.1})
    for sweep in ("mine-1", "mine-2"):
        run_job(space, {"learning_rate": 0.1}, tmp_path / sweep)
        assert tracker.open == []
    assert {"mine-1-t001", "mine-2-t001"} < set(tracker.began)


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
