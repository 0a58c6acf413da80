"""A trial as it is handed to the exchange: its next job, and the decisions it may ask for again.

Pure functions in the sweep process. They must not know what the exchange does with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.records.history import History
from sweeps.records.trial import Trial
from sweeps.workers.job import Answer, Job

Submission = tuple[Job, Mapping[int, Answer]]
"""A job, and the decisions on reports that its trial may make again."""


def make_submission(trial: Trial, history: History, *, seed: int, keep: int) -> Submission:
    """Return what a trial's next attempt is handed.

    Args:
        trial: The trial.
        history: Of its sweep.
        seed: HF `seed`.
        keep: How many params sets keep their best checkpoint.
    """
    state = trial.checkpoints.get("state")
    job = Job(
        trial=trial.id,
        attempt=trial.next_attempt,
        params=trial.params,
        seed=seed,
        checkpoint=state.path if state else None,
        reduced=trial.reduced,
    )
    # Decided saves that are on the storage already are not asked for again.
    owed = owed_save(trial, history, keep)
    answers = {
        number: Answer(
            decided.stop,
            number == owed,
            decided.save_state and (state is None or state.number < number),
        )
        for number, decided in trial.decisions.items()
    }
    return job, answers


def owed_save(trial: Trial, history: History, keep: int) -> int | None:
    """Return the number of the report whose save as best was decided and not done."""
    best, saved = history.best(trial), trial.checkpoints.get("best")
    if best is None or (saved is not None and saved.number == best.number):
        return None
    decided = trial.decisions.get(best.number)
    kept = history.wants(trial, keep)
    return best.number if decided is not None and decided.save_best and kept else None
