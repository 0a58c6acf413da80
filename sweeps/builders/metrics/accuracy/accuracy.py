"""Accuracy: the fraction of rows whose predicted class matches the label.

Opened by `evaluate.load(<this folder>)` in the workers, with no network. It must not know about
models.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np


class Accuracy(evaluate.Metric):
    """Fraction of rows with equal class ids, 0 to 1."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Fraction of rows whose predicted class matches the label.",
            citation="",
            inputs_description="predictions, references: class ids (rows,) int.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
            format="numpy",
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}
