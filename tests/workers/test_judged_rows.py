"""Which rows a model got right, as a report keeps it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers.trainer_utils import EvalLoopOutput

from sweeps.records.row_values import row_values
from sweeps.report import Report
from sweeps.workers.evaluation.judged_rows import Judged, JudgedRows

LABELS = np.array([0, 1, 1, 0, 2, 1, 0, 1, 2])
CLASSES = np.array([0, 1, 0, 0, 2, 1, 1, 1, 2])
RIGHT = "1101 1101 1"


def judged(predictions: Any, labels: Any, share: float, metric: str = "eval_accuracy") -> Judged:
    output = EvalLoopOutput(predictions, labels, {metric: share}, num_samples=9)
    trainer: Any = SimpleNamespace(evaluation_loop=lambda: output)
    rows = JudgedRows(trainer, metric)
    assert trainer.evaluation_loop() is output
    return rows.take({metric: share})


def bits(found: str | None) -> str:
    assert found is not None
    return "".join(f"{byte:08b}" for byte in bytes.fromhex(found.split(":")[1]))[:9]


@pytest.mark.parametrize(
    "predictions",
    [CLASSES, np.eye(3)[CLASSES], (np.eye(3)[CLASSES], np.zeros((9, 4))), (CLASSES, LABELS / 7)],
    ids=["classes", "scores", "scores and more", "classes and losses"],
)
def test_a_bit_says_of_each_row_whether_it_is_right(predictions: Any):
    found = judged(predictions, LABELS, 7 / 9)
    assert found.parts is None
    assert (found.rows, found.labels_per_row) == (9, 1)
    assert bits(found.right) == RIGHT.replace(" ", "")
    assert found.majority == 4 / 9, "class 1 is the most frequent"


def test_other_labels_or_their_order_have_another_checksum():
    one, other = judged(CLASSES, LABELS, 7 / 9), judged(CLASSES[::-1], LABELS[::-1], 7 / 9)
    assert one.right is not None
    assert other.right is not None
    assert one.right.split(":")[0] != other.right.split(":")[0]
    narrow = judged(CLASSES, LABELS.astype(np.int32), 7 / 9)
    assert narrow.right == one.right, "however they are stored"


@pytest.mark.parametrize(
    ("predictions", "labels", "share", "metric"),
    [
        (CLASSES, LABELS, 0.5, "eval_accuracy"),  # the metric says something else
        (CLASSES, LABELS, 7 / 9, "eval_f1"),
        (None, LABELS, 7 / 9, "eval_accuracy"),
        (CLASSES / 2, LABELS, 7 / 9, "eval_accuracy"),
        (np.tile(CLASSES, (2, 1)).T, np.tile(LABELS, (2, 1)).T, 7 / 9, "eval_accuracy"),
    ],
    ids=["another share", "no share", "no predictions", "numbers", "two labels a row"],
)
def test_nothing_is_said_where_rows_are_not_what_the_metric_counts(
    predictions: Any, labels: Any, share: float, metric: str
):
    found = judged(predictions, labels, share, metric)
    assert (found.right, found.majority) == (None, None)


@pytest.mark.parametrize(
    ("predictions", "labels", "share", "differ"),
    [
        (CLASSES, LABELS, 0.5, True),  # as the accuracy of the worst group
        (np.eye(3)[CLASSES], LABELS, 0.5, True),
        (CLASSES, LABELS, 7 / 9, False),
        (CLASSES, LABELS, 0.78, False),  # rounded: no other share is as near
        (CLASSES, LABELS, 0.71, True),  # 6 of 9 is as near
        (None, LABELS, 0.5, False),  # nothing shows that it is not the share
        (CLASSES / 2, LABELS, 0.5, False),
        (np.ones((9, 1)), LABELS % 2, 0.5, False),  # one score a row, not one a class
        (CLASSES, LABELS, 77.8, False),  # in percent
    ],
)
def test_it_is_said_whether_classes_contradict_the_metric_or_are_missing(
    predictions: Any, labels: Any, share: float, differ: bool
):
    assert judged(predictions, labels, share, "eval_worst_group_accuracy").classes_differ == differ


@pytest.mark.parametrize("rows", [300, 30_000])
def test_a_share_that_is_rounded_keeps_its_rows(rows: int):
    labels = np.zeros(rows, np.int64)
    classes = (np.arange(rows) * 7 < rows).astype(np.int64)
    share = float((classes == labels).mean())
    for value in (share, round(share, 4), float(np.float32(share))):
        found = judged(classes, labels, value)
        assert found.right is not None
        assert (found.classes_differ, found.majority) == (False, 1.0)
    assert judged(classes, labels, share + 0.6 / 300).classes_differ


LOSSES = np.array([0.1, 0.3, 2.5, 0.2, 0.1, 0.05, 1.7, 0.4, 0.6], np.float32)


def values(found: Judged) -> Any:
    report = Report(
        trial="t001",
        number=1,
        step=1,
        max_steps=1,
        epoch=1.0,
        metrics={},
        eval_rows=found.rows,
        row_parts=found.parts,
        train_s=1.0,
    )
    return row_values(report)


def test_of_a_mean_loss_each_rows_loss_is_kept():
    mean = float(LOSSES.mean())
    for value, predictions in ((mean, (CLASSES, LOSSES)), (mean, LOSSES)):
        found = judged(predictions, LABELS, value, "eval_loss")
        assert found.right is None
        assert values(found) == pytest.approx(LOSSES, rel=1e-3)
    scores = np.log(np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 9)) + 3
    losses = 3 - scores[range(9), LABELS]
    assert values(judged(scores, LABELS, losses.mean(), "eval_loss")) == pytest.approx(
        losses, rel=1e-3
    )


def test_of_a_perplexity_too():
    blocks = np.tile(LABELS, (4, 1)).T
    found = judged(LOSSES, blocks, float(np.exp(LOSSES.mean())), "eval_perplexity")
    assert values(found).mean() == pytest.approx(np.exp(LOSSES.mean()), rel=1e-3)


def test_of_a_loss_by_word_its_rows_count_by_their_words():
    labels = np.full((9, 6), -100)
    for row in range(9):
        labels[row, 1 : 2 + row % 4] = 1
    words = (labels != -100).sum(axis=1)
    one = judged((labels, LOSSES), labels, float(LOSSES.sum() / words.sum()), "eval_loss")
    assert values(one).mean() == pytest.approx(LOSSES.sum() / words.sum(), rel=1e-3)
    wider = np.concatenate([labels, np.full((9, 2), -100)], axis=1)
    other = judged((wider, LOSSES), wider, float(LOSSES.sum() / words.sum()), "eval_loss")
    assert other.parts == one.parts, "whatever rows are padded to"


@pytest.mark.parametrize("predictions", [None, LOSSES[:5], (CLASSES, LABELS), {"a": LOSSES}])
def test_a_loss_that_no_prediction_comes_to_has_no_rows(predictions: Any):
    assert judged(predictions, LABELS, float(LOSSES.mean()), "eval_loss").parts is None


def test_metrics_of_ones_own_say_what_each_row_adds():
    def compute(_: Any) -> dict[str, float]:
        return {}

    compute.row_parts = lambda seen, metric: (seen.label_ids, LOSSES + 1) if metric else None
    value = LABELS.sum() / (LOSSES + 1).sum()
    output = EvalLoopOutput(CLASSES, LABELS, {"eval_f1": value}, num_samples=9)
    trainer: Any = SimpleNamespace(evaluation_loop=lambda: output, compute_metrics=compute)
    rows = JudgedRows(trainer, "eval_f1")
    trainer.evaluation_loop()
    assert values(rows.take({"eval_f1": value})).mean() == pytest.approx(value, rel=1e-3)
