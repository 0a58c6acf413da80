"""The metrics that `evaluate` opens from the package, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

METRICS = Path(__file__).parents[2] / "sweeps" / "builders" / "metrics"

# Class 0: 2 labelled, 1 predicted, 1 hit: F1 2/3. Class 1: 1, 2, 1: 2/3. Class 2: 1, 1, 1: 1.
# Class 3 is labelled once and never predicted: 0.
PREDICTIONS, REFERENCES = [0, 1, 1, 2, 4], [0, 0, 1, 2, 3]


def compute(name: str, predictions: list[int], references: list[int]) -> Any:
    import evaluate

    metric = evaluate.load(str(METRICS / name), keep_in_memory=True)
    return metric.compute(predictions=predictions, references=references)


def test_accuracy_is_the_share_of_rows_that_are_right() -> None:
    assert compute("accuracy", PREDICTIONS, REFERENCES) == {"accuracy": pytest.approx(3 / 5)}


def test_f1_is_the_mean_over_the_classes_that_are_labelled_or_predicted() -> None:
    # Class 4 is predicted once and never labelled: 0. Five classes in all.
    by_hand = (2 / 3 + 2 / 3 + 1 + 0 + 0) / 5
    assert compute("f1", PREDICTIONS, REFERENCES) == {"f1": pytest.approx(by_hand)}


@pytest.mark.parametrize(("name", "right", "wrong"), [("accuracy", 1, 0), ("f1", 1, 0)])
def test_metrics_reach_both_ends(name: str, right: float, wrong: float) -> None:
    assert compute(name, [0, 1, 2], [0, 1, 2]) == {name: right}
    assert compute(name, [1, 2, 0], [0, 1, 2]) == {name: wrong}


def test_one_loaded_metric_serves_evaluation_after_evaluation() -> None:
    import evaluate

    metric = evaluate.load(str(METRICS / "accuracy"), keep_in_memory=True)
    assert metric.compute(predictions=[1, 1], references=[1, 1]) == {"accuracy": 1}
    assert metric.compute(predictions=[0, 1, 0, 0], references=[1, 1, 1, 1]) == {"accuracy": 0.25}
