"""An evaluation of two batches in place of all, which must not find a fault that is none.

Runs in a worker, on every rank of the smoke run alike. It must not know what is trained.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from transformers import Trainer

BATCHES = 2
"""Evaluation batches of a worker."""


class LacksMetric(Exception):
    """Two batches did not give the metric; all may."""


class ShortEvaluation:
    """Cuts a trainer's evaluations to their first batches, and measures them.

    Some metrics cannot be had from few rows (a ROC curve of one class). So where the batches go
    through the model and what is made of them fails, all are evaluated, and that counts.

    Args:
        trainer: Its `evaluate` and `get_eval_dataloader` are laid over.
        metric: The judged one.
    """

    def __init__(self, trainer: Trainer, metric: str) -> None:
        self._evaluate = trainer.evaluate
        self._loader = trainer.get_eval_dataloader
        self._limit: int | None = BATCHES
        self._metric = metric
        self._inside = False
        self._loops: list[_Loop] = []
        trainer.evaluate = self.evaluate
        trainer.get_eval_dataloader = self.loader

    @property
    def batches(self) -> int | None:
        """Batches of a whole evaluation on this worker; None where they are not known."""
        counts = [loop.batches for loop in self._loops]
        return None if not counts or None in counts else sum(n for n in counts if n is not None)

    @property
    def batch_s(self) -> float | None:
        """Mean seconds of a batch; None where no data loader was used."""
        weights = [loop.batches or 1 for loop in self._loops]
        if not weights:
            return None
        seconds = [loop.batch_s * n for loop, n in zip(self._loops, weights, strict=True)]
        return sum(seconds) / sum(weights)

    def check(self, metrics: Mapping[str, float]) -> None:
        """Let all be evaluated where the metric is missing from a part.

        Raises:
            LacksMetric: It is.
        """
        if self._is_part and self._metric not in metrics:
            raise LacksMetric

    @property
    def _is_part(self) -> bool:
        """Whether this evaluation went over its batches, and they were not all."""
        return any(loop.cut for loop in self._loops) and all(loop.through for loop in self._loops)

    def evaluate(self, *args: Any, **options: Any) -> Any:
        """Return what the trainer's own `evaluate` does of a part, or else of all."""
        if self._inside:  # one of several evaluation sets
            return self._evaluate(*args, **options)
        self._inside = True
        try:
            return self._part_or_all(*args, **options)
        finally:
            self._inside = False

    def _part_or_all(self, *args: Any, **options: Any) -> Any:
        failed, metrics = False, None
        if self._limit is not None:
            self._loops = []
            try:
                metrics = self._evaluate(*args, **options)
            except Exception:
                # A rank that left its peers alone in the middle must not ask them anything.
                if not self._is_part:
                    raise
                failed = True
            if not _any_rank(failed):
                return metrics
        self._limit, self._loops = None, []
        return self._evaluate(*args, **options)

    def loader(self, *args: Any, **options: Any) -> Any:
        """Return the trainer's own loader, cut."""
        loop = _Loop(self._loader(*args, **options), self._limit)
        self._loops.append(loop)
        return loop


class _Loop:
    """A data loader that may end early; all else is as it was."""

    def __init__(self, loader: Any, limit: int | None) -> None:
        self.batch_s = 0.0
        """Seconds of a batch, the first left out where there are more."""
        self.through = False
        self.cut = False
        """Whether it ended early, as far as is known."""
        self._loader = loader
        self._limit = limit

    @property
    def batches(self) -> int | None:
        """Batches of the whole loader, if it knows them."""
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
        timed = ends[1:] if len(ends) > 2 else ends
        self.batch_s = (timed[-1] - timed[0]) / max(1, len(timed) - 1)
        self.through = True


def _any_rank(failed: bool) -> bool:
    """Tell all ranks whether some rank failed."""
    if not dist.is_initialized():
        return failed
    flags = [failed] * dist.get_world_size()
    dist.all_gather_object(flags, failed)
    return any(flags)


def now() -> float:
    """Return monotonic seconds, once the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()
