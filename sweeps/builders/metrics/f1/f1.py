"""Macro F1: the mean over classes of the harmonic mean of precision and recall.

Opened by `evaluate.load(<this folder>)` in the workers, with no network. It must not know about
models.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np


class F1(evaluate.Metric):
    """Unweighted mean of the F1 over all classes that occur in labels or predictions, 0 to 1."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Macro F1, over the classes found in references or predictions.",
            citation="",
            inputs_description="predictions, references: class ids (rows,) int.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
            format="numpy",
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        predicted, labelled = np.asarray(predictions), np.asarray(references)
        scores = []
        for class_id in np.union1d(predicted, labelled):
            hits = np.sum((predicted == class_id) & (labelled == class_id))
            # 2 hits / (predicted + labelled): the denominator is never 0 for a class that occurs.
            total = np.sum(predicted == class_id) + np.sum(labelled == class_id)
            scores.append(2 * hits / total)
        return {"f1": float(np.mean(scores))}
