"""Precision, recall and F1 of named entities: type and boundaries must be right.

Opened by `evaluate.load(<this folder>)` in the workers, with no network. It must not know about
models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import datasets
import evaluate

Entity = tuple[str, int, int]
"""Type, index of the first word, and index after the last word."""


class Entities(evaluate.Metric):
    """Scores over all entities of all rows, 0 to 1; 0 if the denominator is zero.

    Tags are IOB2. As in the CoNLL-2000 shared task's `conlleval` and seqeval's default, an `I-` tag
    that does not continue an entity of its type starts a new one.
    """

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Precision, recall and F1 of entities; type and boundaries must match.",
            citation="",
            inputs_description="predictions, references: IOB2 tags of each row's words.",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(
        self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
    ) -> dict[str, float]:
        predicted = {(i, *found) for i, row in enumerate(predictions) for found in entities(row)}
        labelled = {(i, *found) for i, row in enumerate(references) for found in entities(row)}
        hits = len(predicted & labelled)
        return {
            "precision": hits / len(predicted) if predicted else 0.0,
            "recall": hits / len(labelled) if labelled else 0.0,
            "f1": 2 * hits / (len(predicted) + len(labelled)) if predicted or labelled else 0.0,
        }


def entities(tags: Sequence[str]) -> Iterator[Entity]:
    """Yield the entities of a row."""
    kind, start = "", 0
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, found = tag.partition("-")
        if prefix == "I" and found == kind:
            continue
        if kind:
            yield kind, start, i
        kind, start = found, i
