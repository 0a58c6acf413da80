"""A trial as the exchange gets it: its next job, and decisions on reports that it may repeat.

Pure functions in the sweep process. They must not know what the exchange does with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sweeps.driver.saving import owed_save
from sweeps.records.history import History
from sweeps.records.trial import Trial
from sweeps.workers.job import Job, Reply

Submission = tuple[Job, Mapping[int, Reply]]
"""A job, and the decisions on reports that its trial may repeat."""


def make_submission(trial: Trial, history: History, *, keep: int) -> Submission:
    """Return the job of a trial's next attempt, with the decisions that still apply.

    Args:
        trial: The trial.
        history: The history of the trial's sweep.
        keep: How many params sets keep their best checkpoint.
    """
    state = trial.checkpoints.get("state")
    job = Job(
        trial=trial.id,
        attempt=trial.next_attempt,
        params=trial.params,
        seed=trial.seed,
        checkpoint=state.path if state else None,
        reduced=trial.reduced,
    )
    # A save that was already done is not ordered again.
    owed = owed_save(trial, history, keep)
    answers = {
        number: Reply(
            "continue" if number <= trial.resumed_at else decided.decision,
            number == owed,
            decided.save_state and (state is None or state.number < number),
        )
        for number, decided in trial.decisions.items()
    }
    return job, answers
