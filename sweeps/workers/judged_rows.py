"""How many rows, and labels in each, the judged metric of an evaluation was computed from.

Runs in a worker, on every rank. It must not know the builder beyond its trainer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from transformers import Trainer


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
        self._seen: list[tuple[float, int, int | None]] = []
        """The metric, rows, and labels of a row, for each loop that gave the metric."""
        trainer.evaluation_loop = self.loop

    def loop(self, *args: Any, **options: Any) -> Any:
        """Return what the trainer's own evaluation loop gives."""
        output = self._loop(*args, **options)
        if self._metric in (output.metrics or {}):
            labels = _labels_of_a_row(output.label_ids)
            self._seen.append((output.metrics[self._metric], output.num_samples, labels))
        return output

    def take(self, metrics: Mapping[str, float]) -> tuple[int | None, int | None]:
        """Return (rows, labels of a row) behind an evaluation's metric, and forget its loops.

        None where they are not known: the metric is the trainer's own, such as a mean over sets.
        """
        seen, self._seen = self._seen, []
        for value, rows, labels in reversed(seen):
            if value == metrics.get(self._metric):
                return rows, labels
        return None, None


def _labels_of_a_row(labels: Any) -> int | None:
    """Return how many labels a row has, if they are arrays with a row for each."""
    arrays = labels if isinstance(labels, tuple | list) else [labels]
    shapes = [getattr(array, "shape", ()) for array in arrays]
    return sum(math.prod(shape[1:]) for shape in shapes) if all(shapes) else None
