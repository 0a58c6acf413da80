"""Which checkpoints of a sweep stay on disk: one state a running trial, the best few models.

Runs in the sweep process, which alone deletes. It must not know how checkpoints are written.
"""

from __future__ import annotations

import shutil

from sweeps.records.events import CheckpointDropped, CheckpointSaved, EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History


class Keeper:
    """Takes note of checkpoints and deletes those that are no longer wanted.

    Args:
        folder: The sweep's folder.
        log: Written before anything is deleted.
        history: Fed by the log.
        keep: How many trials keep their best checkpoint.
    """

    def __init__(self, folder: SweepFolder, log: EventLog, history: History, keep: int) -> None:
        self._folder = folder
        self._log = log
        self._history = history
        self._keep = keep

    def keep(self, event: CheckpointSaved) -> None:
        """Take note of a whole checkpoint; drop the one it replaces and those it pushes out."""
        with self._log.lock:
            replaced = self._history.trials[event.trial].checkpoints.get(event.kind)
            self._log.append(event)
            if replaced is not None:
                self._drop(replaced)
            if event.kind == "best":
                for trial in self._history.ranked()[self._keep :]:
                    if pushed_out := trial.checkpoints.get("best"):
                        self._drop(pushed_out)

    def tidy(self, trial_id: str) -> None:
        """Delete all that an ended trial left, its best checkpoint excepted."""
        with self._log.lock:
            checkpoints = self._history.trials[trial_id].checkpoints
            if state := checkpoints.get("state"):
                self._drop(state)
            place = self._folder.checkpoints / trial_id
            best = checkpoints.get("best")
            for path in place.glob("*"):
                if best is None or path != self._folder.path / best.path:
                    shutil.rmtree(path, ignore_errors=True)
            if best is None:
                shutil.rmtree(place, ignore_errors=True)

    def _drop(self, checkpoint: CheckpointSaved) -> None:
        self._log.append(
            CheckpointDropped(
                trial=checkpoint.trial, number=checkpoint.number, kind=checkpoint.kind
            )
        )
        shutil.rmtree(self._folder.path / checkpoint.path, ignore_errors=True)
