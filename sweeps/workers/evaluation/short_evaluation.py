"""An evaluation of a few batches, without errors that a full evaluation would not have.

Runs in a worker, on every rank of the smoke run. It must not know what is trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from transformers import Trainer

from sweeps.workers.evaluation.loop_evaluation import Evaluate, around_loop_evaluations
from sweeps.workers.pace import TIMED, now, pace
from sweeps.workers.ranks import of_all_ranks


class ShortEvaluation:
    """Limits the evaluations of a training loop to their first batches, and measures them.

    Some metrics need more rows (a ROC curve needs two classes). So if the batches pass through the
    model, but their metrics fail or do not include the judged one, all batches are evaluated, and
    that result counts.

    Args:
        trainer: Its evaluations are wrapped, and its `get_eval_dataloader`.
        metric: The judged metric.
    """

    def __init__(self, trainer: Trainer, metric: str) -> None:
        self._loader = trainer.get_eval_dataloader
        self._limit: int | None = TIMED
        self._metric = metric
        self._counts = trainer.args.process_index == 0  # the other ranks use rank 0's metrics
        self._loops: list[_Loop] = []
        around_loop_evaluations(trainer, self.part_or_all)
        trainer.get_eval_dataloader = self.loader

    @property
    def batches(self) -> int | None:
        """Number of batches of a full evaluation on this worker; None if unknown."""
        counts = [loop.batches for loop in self._loops]
        return None if not counts or None in counts else sum(n for n in counts if n is not None)

    @property
    def batch_s(self) -> float | None:
        """Mean seconds per batch.

        None if no data loader was used, or if they could not be measured.
        """
        seconds, batches = 0.0, 0
        for loop in self._loops:
            if loop.batch_s is None:
                return None
            seconds += (loop.batches or 1) * loop.batch_s
            batches += loop.batches or 1
        return seconds / batches if batches else None

    @property
    def _is_part(self) -> bool:
        """Whether this evaluation completed its batches, but these were not all batches."""
        return any(loop.cut for loop in self._loops) and all(loop.through for loop in self._loops)

    def part_or_all(self, evaluate: Evaluate) -> Any:
        """Return the result of an evaluation on some of the batches, or else on all."""
        if self._limit is not None:
            metrics, lacks = None, False
            self._loops = []
            try:
                metrics = evaluate()
                lacks = self._counts and self._is_part and self._metric not in metrics
            except Exception:
                # A rank that has left its peers midway must not wait for them.
                if not self._is_part:
                    raise
                lacks = True
            if not any(of_all_ranks(lacks)):
                return metrics
        self._limit, self._loops = None, []
        return evaluate()

    def loader(self, *args: Any, **options: Any) -> Any:
        """Return the trainer's own loader, limited to the first batches."""
        loop = _Loop(self._loader(*args, **options), self._limit)
        self._loops.append(loop)
        return loop


class _Loop:
    """A data loader that may end early, and is unchanged otherwise."""

    def __init__(self, loader: Any, limit: int | None) -> None:
        self.batch_s: float | None = 0.0
        """Seconds per batch; None if they could not be measured."""
        self.through = False
        self.cut = False
        """Whether it ended early, as far as is known."""
        self._loader = loader
        self._limit = limit

    @property
    def batches(self) -> int | None:
        """Number of batches of the full loader, if it is known."""
        try:
            return len(self._loader)
        except (TypeError, NotImplementedError):
            return None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        whole = len(self._loader)
        return whole if self._limit is None else min(whole, self._limit)

    def __iter__(self) -> Iterator[Any]:
        ends = [now()]
        for batch in itertools.islice(self._loader, self._limit):
            yield batch
            ends.append(now())
        if self._limit is not None and len(ends) > self._limit:
            self.cut = self.batches != self._limit
        self.batch_s = pace(ends)
        self.through = True
