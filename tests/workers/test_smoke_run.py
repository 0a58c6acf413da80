"""The smoke run in this process: what it finds, what it must not find, and what it leaves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from sweeps import SearchSpace
from sweeps.planning.time_left import trial_s
from sweeps.records.events import SmokeMeasured
from sweeps.records.folder import SweepFolder
from sweeps.records.remote import of
from sweeps.space.loading import load_space
from sweeps.workers.isolation import isolated
from sweeps.workers.job import SMOKE, Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.pace import TIMED
from sweeps.workers.signals import Signals
from sweeps.workers.smoke_run import smoke
from tests.conftest import SPACES
from tests.s3_server import s3_server
from tests.workers.test_training import (
    CPU,
    B,
    numbers,
    run_job,
    stop_at,
    with_data_loader_processes,
)

ROWS = 80
"""Rows to judge by: 10 batches of 8."""


class Tiny(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(len(x))
        return {"loss": (self.weight * x - labels).square().mean(), "logits": x * self.weight}


seen: list[int] = []
"""Rows of each batch that the model saw."""


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(rows(ROWS))


def rows(count: int) -> list[dict[str, float]]:
    return [{"x": 1.0, "labels": float(i >= count / 2)} for i in range(count)]


def one_class_is_too_few(prediction: Any) -> dict[str, float]:
    """As a ROC curve: the rows come in the order of their classes."""
    if len(set(prediction.label_ids.ravel().tolist())) < 2:
        raise ValueError("Only one class present in y_true")
    return {"auc": 0.5}


def builder(**given: Any) -> Callable[[TrainingArguments], Trainer]:
    def build(args: TrainingArguments) -> Trainer:
        keywords = {"train_dataset": rows(32), "eval_dataset": rows(ROWS), **given}
        kind = keywords.pop("kind", Trainer)
        return kind(model=Tiny(), args=args, **keywords)

    return build


def space_of(build: Callable[..., Any], **changes: Any) -> SearchSpace:
    space = load_space(str(SPACES / "curves.py")).space
    whole = {"metric": "eval_loss", "mode": "min", "fixed": {"max_steps": 8}, **changes}
    return replace(space, build_trainer=build, tuned={}, first_params=[], **whole)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    seen.clear()
    return SweepFolder(tmp_path / "results" / "curves")


def run_smoke(
    space: SearchSpace,
    folder: SweepFolder,
    params: Any = None,
    told: list[SmokeMeasured] | None = None,
) -> SmokeMeasured:
    measured = [] if told is None else told
    smoke(
        space,
        Job(trial=SMOKE, attempt=1, params=params or {}, seed=0, checkpoint=None),
        devices=CPU,
        folder=folder,
        link=Link(
            report=pytest.fail,
            answer=pytest.fail,
            announce=measured.append,
            name_step=lambda _: None,
        ),
        signals=Signals(),
    )
    (one,) = measured
    return one


def test_it_takes_a_few_steps_evaluates_a_few_batches_and_goes_on_from_what_it_saved(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    seconds = itertools.count()
    for module in ("smoke_run", "evaluation.short_evaluation"):
        monkeypatch.setattr(f"sweeps.workers.{module}.now", lambda: float(next(seconds)))
    measured = run_smoke(space_of(builder()), folder)
    train, judge = [8], [8]
    assert seen == TIMED * train + TIMED * judge + train
    assert (measured.steps, measured.batches, measured.diverged) == (8, 10, None)
    assert (measured.step_s, measured.batch_s) == (1.0, 1.0)
    assert "eval_loss" in measured.metrics
    written = {file.relative_to(folder.path).parts[:2] for file in folder.path.rglob("*.*")}
    assert written == {("scratch", "curves-smoke")}, "and the sweep's folder is as it was"


def test_data_loader_processes_end_by_themselves_before_it_has(folder: SweepFolder):
    shipped = load_space("bert_yelp").space
    space = replace(shipped, build_trainer=shipped.build_trainer.tiny())  # type: ignore[attr-defined]
    processes: set[BaseProcess] = set()
    run_smoke(with_data_loader_processes(space, processes), folder, B)
    assert [process.exitcode for process in processes] == [0] * 6, "4, and 2 from the state on"


def test_a_trial_after_it_gives_the_same_bits_as_without(folder: SweepFolder, tmp_path: Path):
    shipped = load_space("bert_yelp").space
    space = replace(shipped, build_trainer=shipped.build_trainer.tiny())  # type: ignore[attr-defined]
    save = Reply("stop", save_best=True, save_state=False)

    def trial(place: str) -> tuple[Any, str]:
        answer: Callable[[int], Reply] = lambda n: save if n == 3 else stop_at(0)(n)  # noqa: E731
        reports, saved = run_job(space, B, tmp_path / place, answer)
        return numbers(reports), saved[0].sha256

    baseline = isolated.take_baseline()
    isolated.restore(baseline)
    alone = trial("alone")
    isolated.restore(baseline)
    run_smoke(space, folder, B)
    isolated.restore(baseline)
    assert trial("after") == alone


class Clock:
    """Seconds that pass in the model alone: while it compiles, more."""

    def __init__(self, *steps: float) -> None:
        self.time, self.steps = 0.0, steps

    def model(self) -> torch.nn.Module:
        clock = self

        class Slow(Tiny):
            calls = 0

            def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
                clock.time += clock.steps[min(self.calls, len(clock.steps) - 1)]
                Slow.calls += 1
                return super().forward(x, labels)

        return Slow()


@pytest.mark.parametrize(
    ("steps", "step_s"),
    [
        ((30.0, 0.5), 0.5),
        ((30.0, 20.0, 0.5), 0.5),
        ((30.0, 20.0, 0.5, 20.0, 0.5), None),
        ((0.5,), 0.5),
        ((30.0, 0.25, 0.25, 1.0, 0.5), 0.5),
    ],
    ids=["the first compiles", "the second, too", "most do", "none does", "rows of other lengths"],
)
def test_what_compiles_is_no_pace(
    steps: tuple[float, ...], step_s: float | None, folder: SweepFolder, monkeypatch: Any
):
    clock = Clock(*steps)
    for module in ("smoke_run", "evaluation.short_evaluation"):
        monkeypatch.setattr(f"sweeps.workers.{module}.now", lambda: clock.time)

    def build(args: TrainingArguments) -> Trainer:
        return Trainer(clock.model(), args, train_dataset=rows(32), eval_dataset=rows(ROWS))

    measured = run_smoke(space_of(build), folder)
    assert (measured.step_s, measured.batch_s) == (step_s, 0.5)
    assert (trial_s(measured, 2) is None) == (step_s is None)


@pytest.mark.parametrize("max_steps", [1, 2, 3])
def test_a_short_trial_is_no_fault(folder: SweepFolder, max_steps: int):
    space = space_of(builder(), fixed={"max_steps": max_steps})
    assert run_smoke(space, folder).steps == max_steps
    assert len(seen) <= max_steps + TIMED + 1 + TIMED, "HF evaluates the last step, too"


def test_what_can_only_be_had_from_all_rows_is_had_from_all(folder: SweepFolder):
    build = builder(compute_metrics=one_class_is_too_few)
    measured = run_smoke(space_of(build, metric="eval_auc", mode="max"), folder)
    assert measured.metrics["eval_auc"] == 0.5
    assert measured.batches == 10


def test_a_metric_that_only_the_last_batch_gives_is_had_from_all(folder: SweepFolder):
    def at_the_end(prediction: Any, compute_result: bool) -> dict[str, float]:
        return {"score": 0.5} if compute_result else {}

    build = builder(compute_metrics=at_the_end)
    space = space_of(build, metric="eval_score", fixed={"max_steps": 8, "batch_eval_metrics": True})
    assert run_smoke(space, folder).metrics["eval_score"] == 0.5


def test_a_metric_that_few_rows_lack_is_looked_for_in_all(folder: SweepFolder):
    def by_class(prediction: Any) -> dict[str, float]:
        return {f"class_{label:g}": 1.0 for label in set(prediction.label_ids.ravel().tolist())}

    build = builder(compute_metrics=by_class)
    measured = run_smoke(space_of(build, metric="eval_class_1"), folder)
    assert {"eval_class_0", "eval_class_1"} <= measured.metrics.keys()


class OwnEvaluation(Trainer):
    """Judges in its own way, without HF's loop."""

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        metrics = {"eval_score": 0.5}
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def test_a_metric_that_is_missing_from_all_is_left_to_the_sweep_to_judge(folder: SweepFolder):
    found = run_smoke(space_of(builder(kind=OwnEvaluation), metric="eval_score"), folder)
    assert (found.batches, found.batch_s) == (None, None)
    for build in (builder(kind=OwnEvaluation), builder()):
        told: list[SmokeMeasured] = []
        with pytest.raises(KeyError, match="eval_other"):  # HF's, after it was told
            run_smoke(space_of(build, metric="eval_other"), folder, told=told)
        assert "eval_other" not in told[0].metrics


def test_a_fault_in_the_metrics_is_the_builders_own_error(folder: SweepFolder):
    def wrong(prediction: Any) -> dict[str, float]:
        return {"score": prediction.label_id}

    with pytest.raises(AttributeError, match="label_id"):
        run_smoke(space_of(builder(compute_metrics=wrong), metric="eval_score"), folder)


def test_a_state_that_cannot_be_loaded_is_found(folder: SweepFolder):
    class Forgetful(Tiny):
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("these are not my weights")

    def build(args: TrainingArguments) -> Trainer:
        return Trainer(Forgetful(), args, train_dataset=rows(32), eval_dataset=rows(ROWS))

    with pytest.raises(RuntimeError, match="not my weights"):
        run_smoke(space_of(build), folder)


@pytest.mark.parametrize(
    "given",
    [
        {"train_dataset": Stream()},
        {"train_dataset": Stream(), "eval_dataset": Stream()},
        {"kind": Seq2SeqTrainer},
    ],
    ids=["streamed", "all streamed", "another trainer"],
)
def test_what_a_builder_may_bring_is_no_fault(folder: SweepFolder, given: dict[str, Any]):
    build = builder(**given)
    if given.get("kind") is Seq2SeqTrainer:
        build.__annotations__["args"] = Seq2SeqTrainingArguments
    measured = run_smoke(space_of(build), folder)
    known = not isinstance(given.get("eval_dataset"), Stream)
    assert measured.batches == (10 if known else None)
    assert measured.batch_s is not None


def test_each_of_several_evaluation_sets_is_cut_and_counted(folder: SweepFolder):
    build = builder(eval_dataset={"hard": rows(ROWS), "hard_more": rows(16)})
    measured = run_smoke(space_of(build, metric="eval_hard_more_loss"), folder)
    assert seen == [8] * (TIMED + TIMED + 2 + 1)
    assert measured.batches == 10 + 2
    assert {"eval_hard_loss", "eval_hard_more_loss"} <= measured.metrics.keys()


def test_a_metric_that_few_rows_of_the_last_of_several_sets_lack_is_looked_for_in_all(
    folder: SweepFolder,
):
    def by_class(prediction: Any) -> dict[str, float]:
        return {f"class_{label:g}": 1.0 for label in set(prediction.label_ids.ravel().tolist())}

    sets = {"one": rows(ROWS), "two": rows(ROWS)}
    build = builder(eval_dataset=sets, compute_metrics=by_class)
    measured = run_smoke(space_of(build, metric="eval_two_class_1"), folder)
    assert {"eval_one_class_1", "eval_two_class_1"} <= measured.metrics.keys()


def test_a_loss_that_is_no_number_is_told_and_raises_nothing(folder: SweepFolder):
    class NoNumber(Tiny):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            found = super().forward(x, labels)
            return {**found, "loss": found["loss"] + (float("nan") if self.training else 0.0)}

    def build(args: TrainingArguments) -> Trainer:
        return Trainer(NoNumber(), args, train_dataset=rows(32), eval_dataset=rows(ROWS))

    space = space_of(build, fixed={"max_steps": 8, "logging_steps": 8})
    assert run_smoke(space, folder).diverged == "the training loss is nan at step 1"


def test_with_object_storage_it_goes_on_from_what_it_uploaded_beside_the_sweep(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    with s3_server(monkeypatch) as uri:
        elsewhere = replace(folder, storage=uri)
        run_smoke(space_of(builder()), elsewhere)
        names = {name.split("/")[1] for name in of(elsewhere.smoke).files("checkpoints")}
        assert names == {"best-4", "checkpoint-4"}
        assert of(elsewhere).files("") == {}
    assert list(folder.path.rglob("*.safetensors")) == [], "nobody would delete them there"


def test_sft_trainer_goes_through(folder: SweepFolder):
    space = load_space(str(SPACES / "sft.py")).space
    assert run_smoke(space, folder, space.first_params[0]).metrics["eval_loss"] > 0


@pytest.mark.parametrize("steps", [1, 2])
def test_it_tells_that_the_scale_of_a_mean_loss_was_set_right(
    steps: int, folder: SweepFolder
) -> None:
    class Mean(Tiny):
        def forward(self, x: torch.Tensor, labels: torch.Tensor, **_: Any) -> Any:
            return super().forward(x, labels)

    def build(args: TrainingArguments) -> Trainer:
        return Trainer(Mean(), args, train_dataset=rows(32), eval_dataset=rows(ROWS))

    fixed = {"max_steps": 8, "gradient_accumulation_steps": steps}
    assert run_smoke(space_of(build, fixed=fixed), folder).mean_loss == (steps > 1)
