"""What a sweep process that was cut off could not write down any more.

Runs in the sweep process, before its first trial and after an exchange was lost. It must not write
it: it says what is missing.
"""

from __future__ import annotations

from sweeps.records.events import AttemptEnded, CheckpointDropped
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.object_storage import has_checkpoint
from sweeps.records.trial import Trial


def lost_checkpoints(trial: Trial, folder: SweepFolder) -> list[CheckpointDropped]:
    """Return the trial's checkpoints that the log has and the storage has not, or not whole."""
    return [
        CheckpointDropped(trial=trial.id, kind=saved.kind, path=saved.path)
        for saved in trial.checkpoints.values()
        if not has_checkpoint(folder, saved.path)
    ]


def end_of_attempt(trial: Trial, history: History) -> AttemptEnded | None:
    """Return the end of an attempt that was cut off; None where none was running."""
    if trial.status != "running":
        return None
    assert trial.job is not None
    assert history.resumed is not None
    # An earlier process's attempt, or one of this process that lost its exchange.
    earlier = trial.job.time < history.resumed
    until = (history.cut_off if earlier else history.newest) or trial.job.time
    attempt = trial.job.attempt
    seen = [report.train_s for report in trial.reports if report.attempt == attempt]
    return AttemptEnded(
        trial=trial.id,
        attempt=attempt,
        outcome="interrupted",
        train_s=max(seen, default=0.0),
        device_s=(until - trial.job.time) * trial.job.devices,
    )
