"""Which rows a model got right, as a report keeps it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers.trainer_utils import EvalLoopOutput

from sweeps.workers.judged_rows import Judged, JudgedRows

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
    assert (found.rows, found.labels_per_row) == (9, 1)
    assert bits(found.right) == RIGHT.replace(" ", "")


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
    assert judged(predictions, labels, share, metric).right is None
