"""The metrics that `evaluate` opens from the package, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

METRICS = Path(__file__).parents[2] / "sweeps" / "builders" / "metrics"

# Class 0: 2 labelled, 1 predicted, 1 hit: F1 2/3. Class 1: 1, 2, 1: 2/3. Class 2: 1, 1, 1: 1.
# Class 3 is labelled once and never predicted: 0.
PREDICTIONS, REFERENCES = [0, 1, 1, 2, 4], [0, 0, 1, 2, 3]


def compute(name: str, predictions: list[Any], references: list[Any]) -> Any:
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


def entities(predictions: list[str], references: list[str]) -> Any:
    """Scores of sentences written as `O B-PER I-PER`."""
    return compute("entities", *([row.split() for row in of] for of in (predictions, references)))


@pytest.mark.parametrize(
    ("predicted", "labelled", "hits", "found", "wanted"),
    [
        ("O B-PER I-PER O B-LOC", "O B-PER I-PER O B-LOC", 2, 2, 2),
        ("O B-PER O O B-LOC", "O B-PER I-PER O B-LOC", 1, 2, 2),  # it ends too early
        ("O B-PER I-PER I-PER O", "O B-PER I-PER O O", 0, 1, 1),  # it ends too late
        ("O O B-PER O", "O B-PER I-PER O", 0, 1, 1),  # it begins too late
        ("B-LOC I-LOC", "B-PER I-PER", 0, 1, 1),  # another type
        ("B-PER B-PER", "B-PER I-PER", 0, 2, 1),  # two in the place of one
        ("B-PER I-PER", "B-PER B-PER", 0, 1, 2),  # one in the place of two
        ("I-PER I-PER O", "B-PER I-PER O", 1, 1, 1),  # an I- after no entity begins one
        ("B-PER I-LOC", "B-PER B-LOC", 2, 2, 2),  # and so does one of another type
        ("O O I-PER", "O O B-PER", 1, 1, 1),  # up to the last word
        ("O O", "B-PER O", 0, 0, 1),
        ("B-PER O", "O O", 0, 1, 0),
        ("O O", "O O", 0, 0, 0),
    ],
)
def test_an_entity_is_right_by_its_type_and_both_ends(
    predicted: str, labelled: str, hits: int, found: int, wanted: int
) -> None:
    assert entities([predicted], [labelled]) == {
        "precision": pytest.approx(hits / max(found, 1)),
        "recall": pytest.approx(hits / max(wanted, 1)),
        "f1": pytest.approx(2 * hits / max(found + wanted, 1)),
    }


def test_entities_are_counted_over_all_sentences_and_end_with_theirs() -> None:
    # Labelled: 1 + 1. Predicted: 1 + 2 + 1; the second sentence does not go on with the first.
    scores = entities(
        ["B-PER I-PER", "I-PER O B-LOC I-LOC", "B-ORG"], ["B-PER I-PER", "O O B-LOC I-LOC", "O"]
    )
    assert scores == {"precision": 2 / 4, "recall": 1.0, "f1": pytest.approx(4 / 6)}
