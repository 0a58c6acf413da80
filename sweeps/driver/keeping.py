"""Decides which checkpoints stay on disk: one state per open trial, and the best few models.

Runs in the sweep process, the only one that deletes checkpoints. It must not know how checkpoints
are written.
"""

from __future__ import annotations

import shutil
from contextlib import suppress

from sweeps.errors import SweepError
from sweeps.records.checkpoints import is_checkpoint
from sweeps.records.event_log import Log
from sweeps.records.events import CheckpointDropped, CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.remote import of
from sweeps.records.trial import Trial


class Keeper:
    """Logs checkpoints, and deletes those that are no longer needed.

    Args:
        folder: The sweep's folder.
        log: Written before anything is deleted.
        history: Fed by the log.
        keep: How many params sets keep their best trial's best checkpoint.
    """

    def __init__(self, folder: SweepFolder, log: Log, history: History, keep: int) -> None:
        self._folder = folder
        self._log = log
        self._history = history
        self._keep = keep

    def keep(self, event: CheckpointSaved) -> None:
        """Log a complete checkpoint; drop the one that it replaces and those that it pushes out."""
        replaced = self._history.trials[event.trial].checkpoints.get(event.kind)
        self._log.append(event)
        if replaced is not None and replaced.path != event.path:
            self._drop(replaced)
        if event.kind == "best":
            self.push_out()

    def push_out(self) -> None:
        """Drop the best checkpoints of trials that are no longer among the best."""
        for trial in self._history.trials.values():
            saved = trial.checkpoints.get("best")
            if saved is not None and self._history.left_behind(trial, self._keep):
                self._drop(saved)

    def tidy(self, trial: Trial) -> None:
        """Delete what a trial without a running attempt does not need.

        That is: incomplete folders and, once the trial has ended, everything but its best
        checkpoint. What the user's code wrote to `args.output_dir` stays.
        """
        if trial.ended and (state := trial.checkpoints.get("state")):
            self._drop(state)
        wanted = {self._folder.path / saved.path for saved in trial.checkpoints.values()}
        place = self._folder.checkpoints / trial.id
        for path in place.glob("*"):
            if path not in wanted and is_checkpoint(path):
                shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it is not empty, or never existed here
            place.rmdir()

    def clear_smoke(self) -> None:
        """Delete what the smoke run saved."""
        smoke = self._folder.smoke
        shutil.rmtree(smoke.path, ignore_errors=True)
        if smoke.storage is not None:
            with suppress(SweepError):  # the storage fails, but no trial's data is there
                of(smoke).delete()

    def _drop(self, checkpoint: CheckpointSaved) -> None:
        self._log.append(
            CheckpointDropped(trial=checkpoint.trial, kind=checkpoint.kind, path=checkpoint.path)
        )
        path = self._folder.path / checkpoint.path
        shutil.rmtree(path, ignore_errors=True)
        if self._history.trials[checkpoint.trial].ended and not any(path.parent.glob("*")):
            with suppress(FileNotFoundError):  # with object storage, it may never have existed here
                path.parent.rmdir()
