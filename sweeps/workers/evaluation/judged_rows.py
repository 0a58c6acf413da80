"""The rows that a judged metric was computed from, and what each of them contributes to it.

Runs in a worker, on every rank, and when an export is evaluated again. It must not know about the
builder beyond its trainer.
"""

from __future__ import annotations

import math
import numbers
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import EvalPrediction, Trainer

from sweeps.records.row_values import pack
from sweeps.report import may_be_share_of_rows

UNLABELLED = -100
"""Label that neither the loss nor the metrics count, as in torch."""


@dataclass(frozen=True)
class Judged:
    """The rows behind a metric; None: unknown."""

    rows: int | None = None
    labels_per_row: int | None = None
    right: str | None = None
    """See `Report.right_rows`."""
    classes_differ: bool = False
    """See `Report.classes_differ`."""
    majority: float | None = None
    """See `Report.majority`."""
    parts: str | None = None
    """See `Report.row_parts`."""


class JudgedRows:
    """Remembers the rows of the evaluation loop that returned the judged metric.

    An evaluation may run the loop once for each of several sets, or for train rows as well.

    Args:
        trainer: Its `evaluation_loop` is wrapped.
        metric: The judged metric.
    """

    def __init__(self, trainer: Trainer, metric: str) -> None:
        self._loop = trainer.evaluation_loop
        self._own = getattr(getattr(trainer, "compute_metrics", None), "row_parts", None)
        self._metric = metric
        self._seen: list[tuple[float, Judged]] = []
        """The metric and its rows, for each loop that returned the metric."""
        trainer.evaluation_loop = self.loop

    def loop(self, *args: Any, **options: Any) -> Any:
        """Return the result of the trainer's own evaluation loop."""
        output = self._loop(*args, **options)
        if self._metric in (output.metrics or {}):
            value = output.metrics[self._metric]
            predictions, labels = output.predictions, output.label_ids
            right = parts = None
            differ = False
            if may_be_share_of_rows(self._metric) and 0 <= value <= 1:  # not in percent
                rows = _right_rows(predictions, labels)
                differ = rows is not None and not _is_share(value, rows)
                if rows is not None and not differ:
                    right = f"{_checksum(labels)}:{np.packbits(rows).tobytes().hex()}"
            if right is None and isinstance(labels, np.ndarray):
                parts = self._row_parts(predictions, labels, value)
            judged = Judged(
                rows=output.num_samples,
                labels_per_row=_labels_of_a_row(labels),
                right=right,
                classes_differ=differ,
                majority=_majority(labels) if right is not None else None,
                parts=parts,
            )
            self._seen.append((value, judged))
        return output

    def take(self, metrics: Mapping[str, float]) -> Judged:
        """Return the rows behind an evaluation's metric, and forget its loops.

        They are unknown if the trainer computes the metric itself, such as a mean over sets.
        """
        seen, self._seen = self._seen, []
        for value, judged in reversed(seen):
            if value == metrics.get(self._metric):
                return judged
        return Judged()

    def _row_parts(self, predictions: Any, labels: np.ndarray, value: Any) -> str | None:
        """Return `Report.row_parts`, if the metric can be reproduced from the predictions."""
        if not isinstance(value, numbers.Real) or not len(labels):
            return None
        own = self._own(EvalPrediction(predictions, labels), self._metric) if self._own else None
        for parts, weights in (*([own] if own is not None else []), *_losses(predictions, labels)):
            packed = pack(parts, weights, labels=_checksum(labels), value=float(value))
            if packed is not None:
                return packed
        return None


def _labels_of_a_row(labels: Any) -> int | None:
    """Return how many labels each row has, if the labels are arrays with one entry per row."""
    arrays = labels if isinstance(labels, tuple | list) else [labels]
    shapes = [getattr(array, "shape", ()) for array in arrays]
    return sum(math.prod(shape[1:]) for shape in shapes) if all(shapes) else None


def _checksum(labels: np.ndarray) -> str:
    """Return a checksum of labels that does not depend on their dtype and padding."""
    kind = np.int64 if np.issubdtype(labels.dtype, np.integer) else np.float64
    found = 0
    for some in np.array_split(labels, labels.size // 2**20 + 1):  # avoids a copy of all labels
        counted = some[some != UNLABELLED] if labels.ndim > 1 else some
        found = zlib.crc32(counted.astype(kind).tobytes(), found)
    if labels.ndim > 1:
        found = zlib.crc32(_counted(labels).tobytes(), found)
    return f"{found:08x}"


def _counted(labels: np.ndarray) -> np.ndarray:
    """Return how many labels of each row count (rows,)."""
    counted: np.ndarray = (labels != UNLABELLED).reshape(len(labels), -1).sum(axis=1)
    return counted


def _losses(predictions: Any, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield possible losses of the rows (rows,), each with its divisor (rows,).

    Args:
        predictions: Losses (rows,), or scores (rows, classes), or a tuple that contains one of
            them.
        labels: Classes (rows,), or classes of tokens (rows, tokens).
    """
    rows = len(labels)
    for found in predictions if isinstance(predictions, tuple) else (predictions,):
        if not isinstance(found, np.ndarray) or not np.issubdtype(found.dtype, np.floating):
            continue
        if found.shape == (rows,):
            yield found.astype(np.float64), np.ones(rows)
            if labels.ndim > 1:
                yield found.astype(np.float64), _counted(labels).astype(np.float64)
        elif found.ndim == 2 and _are_classes(labels, found.shape):
            scores = found.astype(np.float64)
            scores -= scores.max(axis=1, keepdims=True)
            of_label = np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
            yield np.log(np.exp(scores).sum(axis=1)) - of_label, np.ones(rows)


def _are_classes(labels: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Tell whether labels (rows,) are valid classes for scores of this shape."""
    return (
        labels.shape == shape[:1]
        and np.issubdtype(labels.dtype, np.integer)
        and labels.min() >= 0
        and labels.max() < shape[1]
    )


def _majority(labels: np.ndarray) -> float:
    """Return the share of the most frequent of labels (rows,)."""
    counts = np.unique(labels, return_counts=True)[1]
    return float(counts.max() / len(labels))


def _is_share(value: float, rows: np.ndarray) -> bool:
    """Tell whether a value is the share of right rows (rows,), which a metric may have rounded.

    It is if no other share of these rows is as near, or if four decimals do not tell them apart.
    """
    return abs(float(rows.mean()) - value) < max(0.5 / len(rows), 0.50001e-4)


def _right_rows(predictions: Any, labels: Any) -> np.ndarray | None:
    """Return of each row whether its class is right (rows,); None if there are no classes.

    Args:
        predictions: Integer classes (rows,) or scores (rows, classes); the first item of a tuple.
        labels: Integer classes (rows,).
    """
    found = predictions[0] if isinstance(predictions, tuple) and predictions else predictions
    if not isinstance(found, np.ndarray) or not isinstance(labels, np.ndarray):
        return None
    if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
        return None
    if found.ndim == 2 and _are_classes(labels, found.shape):
        found = found.argmax(axis=-1)
    if not np.issubdtype(found.dtype, np.integer) or found.shape != labels.shape:
        return None
    right: np.ndarray = found == labels
    return right
