"""A report is what the training loop's own evaluation returns, whatever happens inside it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from sweeps import SearchSpace
from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.workers.evaluation.reported_numbers import numbers_of
from sweeps.workers.job import Reply
from sweeps.workers.signals import Signals
from tests.workers.own_trainers import PARAMS, builder, hits, rows, space_of
from tests.workers.test_smoke_run import run_smoke
from tests.workers.test_training import GO, numbers, run_job, stop_at

EVERY_STEP = [4, 8, 12, 16]


def losses(reports: list[Report]) -> list[float]:
    return [report.metrics["eval_loss"] for report in reports]


@pytest.fixture(scope="module", autouse=True)
def light() -> Iterator[None]:
    """As in a worker: the libraries' objects are not searched again at the end of each trial."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    """The reports of HF's own trainer on the same rows."""
    reports, _ = run_job(space_of(builder()), PARAMS, tmp_path_factory.mktemp("plain"))
    assert [report.step for report in reports] == EVERY_STEP
    assert len(set(losses(reports))) == 4
    return reports


class Adds(Trainer):
    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        metrics = super().evaluate(*args, **options)
        metrics["eval_score"] = np.float32(1 - metrics["eval_loss"])  # HF would fail to save it
        return metrics


class TrainRowsFirst(Trainer):
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):  # type: ignore[no-untyped-def]
        on_train = super().evaluate(self.train_dataset, ignore_keys, "train")
        return {**on_train, **super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)}


class TrainRowsLast(Trainer):
    """With the same prefix, and by `self`: HF's log has both, and its loop gets the first."""

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):  # type: ignore[no-untyped-def]
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if eval_dataset is None:
            self.evaluate(self.train_dataset)
        return metrics


class Own(Trainer):
    """Calls no callback."""

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            batches = [self._prepare_inputs(batch) for batch in self.get_eval_dataloader()]
            found = [self.model(**batch)["loss"].item() for batch in batches]
        metrics = {f"{metric_key_prefix}_loss": np.float32(np.mean(found))}
        self.log(metrics)
        return metrics


class OnTrainRows(TrainerCallback):
    """Evaluates train rows for itself at one kind of event."""

    trainer: Trainer

    def __init__(self, event: str) -> None:
        self.inside = False
        setattr(self, event, self.look)

    def look(self, *_: Any, **__: Any) -> None:
        if not self.inside:
            self.inside = True
            self.trainer.evaluate(self.trainer.train_dataset)  # with the prefix `eval`, too
            self.inside = False


@pytest.mark.parametrize("kind", [Adds, TrainRowsFirst, TrainRowsLast, Own])
def test_a_trainer_of_ones_own_is_judged_by_what_its_evaluate_returns(
    kind: type[Trainer], plain: list[Report], tmp_path: Path
):
    reports, _ = run_job(space_of(builder(kind)), PARAMS, tmp_path)
    assert [report.step for report in reports] == EVERY_STEP
    assert losses(reports) == pytest.approx(losses(plain), rel=1e-6)
    assert losses(reports) == losses(plain) or kind is Own


@pytest.mark.parametrize(
    "event",
    [
        *("on_train_begin", "on_epoch_begin", "on_step_begin", "on_step_end", "on_log"),
        *("on_evaluate", "on_prediction_step", "on_save", "on_epoch_end"),
    ],
)
def test_what_a_callback_evaluates_for_itself_is_no_report(
    event: str, plain: list[Report], tmp_path: Path
):
    build = builder(callbacks=[lambda: OnTrainRows(event)])
    state = Reply("continue", save_best=False, save_state=True)
    reports, (saved,) = run_job(
        space_of(build), PARAMS, tmp_path, lambda n: state if n == 3 else GO
    )
    assert [report.step for report in reports] == EVERY_STEP
    assert losses(reports) == losses(plain)
    resumed, _ = run_job(space_of(build), PARAMS, tmp_path, checkpoint=saved.path)
    assert losses(resumed) == losses(plain)[3:]


def test_a_metric_that_a_subclass_adds_may_judge(tmp_path: Path):
    reports, saved = run_job(
        space_of(builder(Adds), "eval_score"),
        PARAMS,
        tmp_path,
        lambda n: Reply("continue", save_best=False, save_state=n == 2),
    )
    assert [report.metrics["eval_score"] for report in reports] == pytest.approx(
        [1 - loss for loss in losses(reports)]
    )
    assert len(saved) == 1


def test_a_metric_of_another_prefix_may_judge(plain: list[Report], tmp_path: Path):
    class OfValidation(Trainer):
        def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
            return super().evaluate(*args, **{**options, "metric_key_prefix": "valid"})

    reports, _ = run_job(space_of(builder(OfValidation), "valid_loss"), PARAMS, tmp_path)
    assert [report.metrics["valid_loss"] for report in reports] == losses(plain)


@pytest.mark.parametrize(
    ("given", "params", "follower"),
    [
        ({"callbacks": [lambda: EarlyStoppingCallback(1)]}, PARAMS, "EarlyStoppingCallback"),
        (
            {},
            {**PARAMS, "lr_scheduler_type": "reduce_lr_on_plateau"},
            "lr_scheduler_type='reduce_lr_on_plateau'",
        ),
    ],
)
def test_what_follows_a_metric_that_hf_does_not_find_is_named(
    given: dict[str, Any], params: dict[str, Any], follower: str, tmp_path: Path
):
    with pytest.raises(
        UserError, match=f"^{follower} monitors only metrics .* as 'eval_valid_loss'"
    ):
        run_job(space_of(builder(**given), "valid_loss"), params, tmp_path)


def test_a_mean_over_several_sets_may_judge(tmp_path: Path):
    class Mean(Trainer):
        def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
            metrics = super().evaluate(*args, **options)
            if {"eval_a_loss", "eval_b_loss"} <= metrics.keys():
                both = metrics["eval_a_loss"], metrics["eval_b_loss"]
                metrics["eval_loss"] = sum(both) / 2
            return metrics

    sets = {"a": rows(16), "b": [{"x": [1.0], "labels": [3.0]}] * 8}
    reports, _ = run_job(space_of(builder(Mean, eval_dataset=sets)), PARAMS, tmp_path)
    assert [report.step for report in reports] == EVERY_STEP
    for report in reports:
        both = report.metrics["eval_a_loss"], report.metrics["eval_b_loss"]
        assert report.metrics["eval_loss"] == sum(both) / 2
        assert report.eval_rows is None


def test_an_evaluation_without_callbacks_is_made_once_and_resumes_exactly(tmp_path: Path):
    calls: list[int] = []

    class Counted(Own):
        def evaluate(self, *args: Any, **options: Any) -> Any:
            calls.append(self.state.global_step)
            return super().evaluate(*args, **options)

    state = Reply("continue", save_best=False, save_state=True)
    space = space_of(builder(Counted))
    whole, saved = run_job(space, PARAMS, tmp_path, lambda n: state if n == 2 else GO)
    assert calls == EVERY_STEP
    resumed, _ = run_job(space, PARAMS, tmp_path, checkpoint=saved[0].path)
    assert numbers(resumed) == numbers(whole[2:])


@pytest.mark.parametrize(
    "build",
    [
        *(builder(kind) for kind in (Adds, TrainRowsFirst, TrainRowsLast, Own)),
        *(
            builder(callbacks=[lambda event=event: OnTrainRows(event)])
            for event in ("on_evaluate", "on_step_end")
        ),
    ],
    ids=["adds", "train first", "train last", "own", "on_evaluate", "on_step_end"],
)
def test_the_smoke_run_takes_them_as_they_are(build: Callable[..., Any], tmp_path: Path):
    folder = SweepFolder(tmp_path / "results" / "curves")
    measured = run_smoke(space_of(build), folder, PARAMS)
    assert measured.metrics["eval_loss"] > 0
    assert measured.diverged is None


def test_the_watch_hears_that_an_evaluation_of_ones_own_is_one(tmp_path: Path):
    phases: list[str] = []
    signals = Signals()

    class Looks(Own):
        def evaluate(self, *args: Any, **options: Any) -> Any:
            phases.append(signals.phase)
            return super().evaluate(*args, **options)

    run_job(space_of(builder(Looks)), PARAMS, tmp_path, stop_at(2), signals=signals)
    assert phases == ["evaluation"] * 2
    assert signals.phase == "training"


# Metrics that are no numbers.


def returns(**metrics: Any) -> SearchSpace:
    return space_of(builder(compute_metrics=lambda _: metrics))


@pytest.mark.parametrize(
    ("metrics", "judged", "words"),
    [
        (
            {"per_class": np.array([0.1, 0.2])},
            "eval_loss",
            "metric 'eval_per_class' is an array of shape (2,), which HF cannot save in a"
            " checkpoint; return each of its numbers under a separate name, such as"
            " 'eval_per_class_0'; available numbers: eval_loss, eval_runtime",
        ),
        (
            {"note": "fine", "pearson": None, "f1": 0.5},
            "eval_pearson",
            "no number named 'eval_pearson': 'eval_note' is of type str, 'eval_pearson' is None;"
            " return a number; available numbers: eval_f1,",
        ),
        (
            {"per_class": np.array([0.1, 0.2]), "f1": 0.5},
            "eval_per_class",
            "the evaluation returned no number named 'eval_per_class': 'eval_per_class' is an"
            " array of shape (2,); return each of its numbers under a separate name, such as"
            " 'eval_per_class_0'; available numbers: eval_f1, eval_loss",
        ),
        (
            {"overall": {"f1": 0.5, "recall": 0.1}},
            "eval_overall_f1",
            "the evaluation returned no number named 'eval_overall_f1': 'eval_overall' is a dict"
            " with the keys 'f1', 'recall'; return each of its numbers under a separate name, such"
            " as 'eval_overall_f1'; available numbers: eval_loss",
        ),
        (
            {"overall": {"f1": np.array([0.5])}},
            "eval_loss",
            "metric 'eval_overall' is a dict with the keys 'f1', which HF cannot save",
        ),
        ({"note": "good"}, "eval_note", "'eval_note' is of type str; "),
    ],
    ids=[
        "an array",
        "None",
        "an array that judges",
        "inside of a dict",
        "an array in a dict",
        "a text",
    ],
)
def test_a_metric_that_is_no_number_is_named_with_the_numbers_there_are(
    metrics: dict[str, Any], judged: str, words: str, tmp_path: Path
):
    space = replace(returns(**metrics), metric=judged)
    with pytest.raises(UserError) as told:
        run_job(space, PARAMS, tmp_path)
    assert words in str(told.value)
    with pytest.raises(UserError) as told:
        run_smoke(space, SweepFolder(tmp_path / "results" / "curves"), PARAMS)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (
            "eval_acuracy",
            "the evaluation returned no number named 'eval_acuracy'; available numbers:"
            " eval_accuracy, eval_loss; did you mean 'eval_accuracy'?",
        ),
        ("eval_per_class_f1", "'eval_per_class' is an array of shape (2,); return each"),
    ],
)
def test_a_misspelt_metric_is_not_looked_for_in_an_unrelated_array(judged: str, words: str):
    returned = {"eval_accuracy": 0.5, "eval_loss": 1.0, "eval_per_class": np.array([0.1, 0.2])}
    with pytest.raises(UserError) as told:
        numbers_of(returned, judged, [returned])
    assert words in str(told.value)


def test_the_name_of_a_metric_can_be_written_anywhere():
    """A tracker's process encodes it, and would end at a lone surrogate each time it starts."""
    returned = {"eval_loss": 1.0, "eval_\udc80": 0.5}
    assert numbers_of(returned, "eval_loss", [returned]) == {"eval_loss": 1.0, "eval_\\udc80": 0.5}


def test_an_evaluation_that_returns_nothing_is_said(tmp_path: Path):
    class Forgets(Trainer):
        def evaluate(self, *args: Any, **options: Any) -> None:  # type: ignore[override]
            super().evaluate(*args, **options)

    space = space_of(builder(Forgets))
    with pytest.raises(
        UserError, match=r"evaluate\(\) returned None; it must return a dict of numbers"
    ):
        run_smoke(space, SweepFolder(tmp_path / "results" / "curves"), PARAMS)


def test_a_dict_beside_the_judged_metric_is_left_out(tmp_path: Path):
    reports, _ = run_job(returns(overall={"f1": 0.5}, n=np.int64(3)), PARAMS, tmp_path, stop_at(1))
    assert reports[0].metrics["eval_n"] == 3
    assert "eval_overall" not in reports[0].metrics


# The rows behind the judged metric.


@pytest.mark.parametrize(
    ("given", "judged", "expected"),
    [
        ({}, "eval_accuracy", (16, 1)),
        ({"eval_dataset": {"easy": rows(640), "hard": rows(8)}}, "eval_hard_accuracy", (8, 1)),
        ({"eval_dataset": {"a": rows(24), "a_b": rows(8)}}, "eval_a_accuracy", (24, 1)),
        ({"kind": TrainRowsFirst}, "eval_accuracy", (16, 1)),
        ({"kind": Adds}, "eval_score", (None, None)),
        ({"kind": Own}, "eval_loss", (None, None)),
        (
            {"eval_dataset": rows(16, labels=5), "train_dataset": rows(64, labels=5)},
            "eval_accuracy",
            (16, 5),
        ),
    ],
    ids=["one set", "the hard one", "a, not a_b", "train first", "added", "own", "five labels"],
)
def test_the_rows_and_labels_are_those_that_the_judged_metric_was_computed_from(
    given: dict[str, Any], judged: str, expected: Any, tmp_path: Path
):
    space = space_of(builder(compute_metrics=hits, **given), judged)
    reports, _ = run_job(space, PARAMS, tmp_path, stop_at(2))
    assert [(report.eval_rows, report.labels_per_row) for report in reports] == [expected] * 2


# A trial that ends itself.


class Ends(TrainerCallback):
    """A target or a time limit of the user's own."""

    trainer: Trainer

    def __init__(self, event: str, step: int) -> None:
        def end(args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= step:
                control.should_training_stop = True

        setattr(self, event, end)


def test_early_stopping_ends_a_trial_with_its_last_report(tmp_path: Path):
    """The loss only falls, so `max` is satisfied by the first."""
    build = builder(callbacks=[lambda: EarlyStoppingCallback(1)])
    reports, saved = run_job(
        space_of(build, mode="max"),
        PARAMS,
        tmp_path,
        lambda n: Reply("continue", save_best=n == 1, save_state=False),
    )
    assert [(report.number, report.ends_itself, report.is_last) for report in reports] == [
        (1, False, False),
        (2, True, True),
    ]
    assert [(event.number, event.kind) for event in saved] == [(1, "best")]


@pytest.mark.parametrize(
    ("event", "step", "reported"),
    [
        ("on_step_end", 6, [(1, 4, False)]),
        ("on_step_end", 8, [(1, 4, False), (2, 8, True)]),
        ("on_evaluate", 8, [(1, 4, False), (2, 8, True)]),
        ("on_step_end", 2, [(1, 2, True)]),
        ("on_log", 2, [(1, 2, True)]),
        ("on_substep_end", 1, [(1, 4, False), (2, 8, False), (3, 12, False), (4, 16, False)]),
        ("on_epoch_end", 8, [(1, 4, False), (2, 8, False)]),
        ("on_step_end", 16, [(1, 4, False), (2, 8, False), (3, 12, False), (4, 16, False)]),
    ],
)
def test_a_trial_that_ends_itself_before_any_report_is_evaluated_once(
    event: str, step: int, reported: list[tuple[int, int, bool]], tmp_path: Path
):
    build = builder(callbacks=[lambda: Ends(event, step)])
    save = Reply("continue", save_best=True, save_state=False)
    reports, saved = run_job(space_of(build), PARAMS, tmp_path, lambda _: save)
    assert [(r.number, r.step, r.ends_itself) for r in reports] == reported
    assert [(s.number, s.kind) for s in saved] == [(r[0], "best") for r in reported]


def test_an_end_at_an_epochs_end_before_any_report_counts_too(tmp_path: Path):
    build = builder(callbacks=[lambda: Ends("on_epoch_end", 1)])
    space = space_of(build, evals_per_trial=1)
    reports, _ = run_job(space, PARAMS, tmp_path)
    assert [(r.number, r.step, r.ends_itself) for r in reports] == [(1, 8, True)]


def test_a_trial_that_leaves_a_draining_node_before_any_report_is_not_evaluated(tmp_path: Path):
    signals = Signals(save_at=2)
    reports, saved = run_job(space_of(builder()), PARAMS, tmp_path, signals=signals)
    assert (reports, signals.left_by) == ([], "preempted")
    assert [(s.number, s.kind) for s in saved] == [(0, "state")]
