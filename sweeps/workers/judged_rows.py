"""What the judged metric of an evaluation was computed from: how many rows, and which are right.

Runs in a worker, on every rank. It must not know the builder beyond its trainer.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import Trainer

from sweeps.report import may_be_share_of_rows


@dataclass(frozen=True)
class Judged:
    """The rows behind a metric; None: not known."""

    rows: int | None = None
    labels_per_row: int | None = None
    right: str | None = None
    """See `Report.right_rows`."""


class JudgedRows:
    """Remembers the rows of the evaluation loop that gave the judged metric.

    An evaluation may run the loop once for each of several sets, or over train rows as well.

    Args:
        trainer: Its `evaluation_loop` is wrapped.
        metric: The judged metric.
    """

    def __init__(self, trainer: Trainer, metric: str) -> None:
        self._loop = trainer.evaluation_loop
        self._metric = metric
        self._seen: list[tuple[float, Judged]] = []
        """The metric, and its rows, for each loop that gave the metric."""
        trainer.evaluation_loop = self.loop

    def loop(self, *args: Any, **options: Any) -> Any:
        """Return what the trainer's own evaluation loop gives."""
        output = self._loop(*args, **options)
        if self._metric in (output.metrics or {}):
            value = output.metrics[self._metric]
            right = None
            if may_be_share_of_rows(self._metric):
                right = _right_rows(output.predictions, output.label_ids, value)
            labels = _labels_of_a_row(output.label_ids)
            self._seen.append((value, Judged(output.num_samples, labels, right)))
        return output

    def take(self, metrics: Mapping[str, float]) -> Judged:
        """Return the rows behind an evaluation's metric, and forget its loops.

        They are not known where the metric is the trainer's own, such as a mean over sets.
        """
        seen, self._seen = self._seen, []
        for value, judged in reversed(seen):
            if value == metrics.get(self._metric):
                return judged
        return Judged()


def _labels_of_a_row(labels: Any) -> int | None:
    """Return how many labels a row has, if they are arrays with a row for each."""
    arrays = labels if isinstance(labels, tuple | list) else [labels]
    shapes = [getattr(array, "shape", ()) for array in arrays]
    return sum(math.prod(shape[1:]) for shape in shapes) if all(shapes) else None


def _right_rows(predictions: Any, labels: Any, share: float) -> str | None:
    """Return `Report.right_rows` of predicted classes or their scores, if they give that share.

    Args:
        predictions: Classes (rows,) of integers or scores (rows, classes); of a tuple the first.
        labels: Classes (rows,) of integers.
        share: What the metric says.
    """
    found = predictions[0] if isinstance(predictions, tuple) and predictions else predictions
    if not isinstance(found, np.ndarray) or not isinstance(labels, np.ndarray):
        return None
    classes = found.argmax(axis=-1) if found.ndim == 2 else found
    integers = np.issubdtype(classes.dtype, np.integer) and np.issubdtype(labels.dtype, np.integer)
    if not integers or labels.ndim != 1 or classes.shape != labels.shape or not len(labels):
        return None
    right = classes == labels
    if not math.isclose(right.mean(), share, abs_tol=1e-6):
        return None
    checksum = zlib.crc32(labels.astype(np.int64).tobytes())
    return f"{checksum:08x}:{np.packbits(right).tobytes().hex()}"
