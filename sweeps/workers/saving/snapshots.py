"""Completes what a trial saves while the trial continues: one thread, one snapshot at a time.

Runs in a worker, in parallel with the training of a job. Ranks other than 0 only have snapshots of
which each rank writes its part. It must not know how a snapshot is completed.

A snapshot is what HF has just saved for a trial: checkpoint folders that are in host memory and may
not be on disk yet. What HF has written is in the page cache, whose size the kernel limits. What is
not written yet is in separate copies (`host_copies.py`), at most two of each file at a time.
"""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from sweeps.records.events import CheckpointKind
from sweeps.workers.saving.host_copies import Unwritten
from sweeps.workers.signals import Signals

logger = logging.getLogger("sweeps")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Checkpoints that HF has written at one step."""

    number: int
    """Number of the latest report."""
    step: int
    paths: Mapping[CheckpointKind, Path]
    """The folders, in the order in which they are completed; all of them have the same weights. If
    there is a state, the best model is linked from it."""
    unwritten: Unwritten = field(default_factory=Unwritten)
    """Files that are not in the folders yet."""
    in_parts: bool = False
    """Whether each rank has a snapshot of this step and writes its part; then none is dropped."""


class Snapshots:
    """The snapshots of one job, completed in the order in which they were taken.

    The order matters: if a state were complete before the best model of an earlier step, a trial
    that resumes from this state could never save that model. At most one snapshot waits while
    another is completed. Leaving the context waits for both.

    Args:
        make_whole: Writes, flushes, digests, marks, uploads and announces a snapshot; runs in the
            thread. If an earlier snapshot has failed, it is called with that error, and only for a
            snapshot of which each rank writes its part.
        drop: Called with the unwritten files of a snapshot that is deleted.
        signals: Told when the main thread waits for a snapshot.
    """

    def __init__(
        self,
        make_whole: Callable[[Snapshot, BaseException | None], None],
        drop: Callable[[Unwritten], None],
        signals: Signals,
    ) -> None:
        self._make_whole = make_whole
        self._drop = drop
        self._signals = signals
        self._thread = ThreadPoolExecutor(1, "snapshots")
        self._open: deque[tuple[Snapshot, Future[None]]] = deque()
        """Snapshots that may be incomplete, oldest first."""
        self._failed: BaseException | None = None
        self._lost: int | None = None
        """The step of the snapshot that failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        with self._signals.save():
            self._thread.shutdown()
        if error is None:
            self.check()
        elif self._failed is not None and self._failed is not error:
            logger.warning(
                "the checkpoint of step %d could not be saved; the trial can only continue from an"
                " earlier one",
                self._lost,
                exc_info=self._failed,
            )

    def check(self) -> None:
        """Raise the error of a failed snapshot; those after it are not completed."""
        while self._open and self._open[0][1].done():
            _, future = self._open.popleft()
            future.result()

    def make_room(self, kinds: Set[CheckpointKind]) -> None:
        """Return once no snapshot is waiting, so that the next one may be written.

        A waiting snapshot is deleted if the next one replaces it, unless each rank writes its part.
        Otherwise, this waits until its turn has come.

        Args:
            kinds: The kinds of checkpoints in the next snapshot.
        """
        self.check()
        if len(self._open) < 2:
            return
        waiting, future = self._open[-1]
        replaced = waiting.paths.keys() <= kinds and not waiting.in_parts
        if replaced and future.cancel():
            self._open.pop()
            self._drop(waiting.unwritten)
            for path in waiting.paths.values():
                shutil.rmtree(path, ignore_errors=True)
            return
        logger.info("training is waiting for an earlier checkpoint to be saved")
        with self._signals.save():
            self._open[0][1].result()

    def put(self, snapshot: Snapshot) -> None:
        """Queue a snapshot to be completed, after those before it."""
        self._open.append((snapshot, self._thread.submit(self._take, snapshot)))

    def _take(self, snapshot: Snapshot) -> None:
        if self._failed is not None and not snapshot.in_parts:
            return
        try:
            self._make_whole(snapshot, self._failed)
        except BaseException as error:
            if self._failed is None:
                self._failed, self._lost = error, snapshot.step
            raise
