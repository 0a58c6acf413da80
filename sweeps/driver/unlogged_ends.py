"""Events that nobody has logged: of an interrupted sweep process, and of what was deleted.

Pure functions in the sweep process, called before its first trial, after an exchange was lost, and
before a trial runs again. They must not write.
"""

from __future__ import annotations

from sweeps.records.events import AttemptEnded, CheckpointDropped, seconds_between
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.object_storage import has_checkpoint
from sweeps.records.trial import Trial


def lost_checkpoints(trial: Trial, folder: SweepFolder) -> list[CheckpointDropped]:
    """Return the trial's checkpoints that are logged, but missing or incomplete in the storage."""
    return [
        CheckpointDropped(trial=trial.id, kind=saved.kind, path=saved.path)
        for saved in trial.checkpoints.values()
        if not has_checkpoint(folder, saved.path)
    ]


def end_of_attempt(trial: Trial, history: History) -> AttemptEnded | None:
    """Return the end of the attempt that was interrupted; None if none was running."""
    if trial.status != "running":
        return None
    assert trial.job is not None
    # The attempt is from an earlier process, or from this one if it lost its exchange.
    until = trial.left_at or history.newest or trial.job.time
    attempt = trial.job.attempt
    seen = [report.train_s for report in trial.reports if report.attempt == attempt]
    train_s = max(seen, default=0.0)  # by a monotonic clock, unlike the times in the log
    return AttemptEnded(
        trial=trial.id,
        attempt=attempt,
        outcome="interrupted",
        train_s=train_s,
        device_s=max(train_s, seconds_between(trial.job.time, until)) * trial.job.devices,
    )
