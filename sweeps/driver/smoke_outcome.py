"""What follows from the smoke run: the sweep ends, the run is retried, or the trials start.

Pure functions in the sweep process. They must not know how it is run.
"""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.errors import SweepError, UserError
from sweeps.planning.steps import few_steps
from sweeps.planning.time_left import share_of_evaluations, trial_s
from sweeps.records.events import SmokeEnded, SmokeMeasured
from sweeps.records.history import History
from sweeps.space.search_space import SearchSpace
from sweeps.workers.job import SMOKE

TRIES = 3
"""Smoke runs lost without an exception after which the sweep gives up."""
MOSTLY, LONG_S = 0.5, 60.0
"""Evaluations are mentioned from this fraction of a trial on, and from this many seconds on."""
FINDINGS = ("done", "out_of_memory")
"""Outcomes after which the trials start."""


def is_due(history: History) -> bool:
    """Tell whether no smoke run has ended well yet, and no trial has started."""
    if any(trial.job for trial in history.trials.values()):
        return False
    return history.smoke is None or history.smoke.outcome not in FINDINGS


def fault(ended: SmokeEnded, failures: int, where: str) -> SweepError | None:
    """Return why the sweep ends; None if it continues or retries the smoke run.

    Args:
        ended: How the smoke run ended.
        failures: Smoke runs of this sweep process that ended in an error, this one included.
        where: The space's location, for messages.
    """
    if ended.fixable:
        # A full disk is not the space's fault.
        return UserError(ended.message or "", where if ended.outcome == "error" else None)
    if ended.outcome == "stalled":
        return SweepError(
            f"the smoke run stalled before the first trial: {ended.message}; the stacks of its"
            f" ranks are in the sweep's logs/{SMOKE}-attempt{ended.attempt}-rank*.stacks"
        )
    if ended.outcome == "error" and ended.traceback is not None:
        return SweepError(f"the smoke run failed before the first trial: {ended.message}")
    if ended.outcome == "error" and failures >= TRIES:
        return SweepError(
            f"the smoke run failed {failures} times before the first trial: {ended.message}"
        )
    return None


def findings(
    ended: SmokeEnded, measured: SmokeMeasured | None, space: SearchSpace
) -> Iterator[str]:
    """Yield a line for each finding that does not end the sweep, since other params may work."""
    goes_on = "the trials start anyway, because other params may work"
    if ended.outcome == "out_of_memory":
        yield f"the smoke run ran out of memory ({ended.message}); {goes_on}"
    if ended.outcome == "done" and measured is not None:
        yield from few_steps(space, "the first trial", measured.steps)
        share = share_of_evaluations(measured, space.evals_per_trial) or 0.0
        whole_s = trial_s(measured, space.evals_per_trial) or 0.0
        if share >= MOSTLY and share * whole_s >= LONG_S:
            yield (
                f"evaluations take {share:.0%} of a trial's time; a larger"
                " per_device_eval_batch_size, fewer evaluation rows or a lower evals_per_trial"
                " would shorten them"
            )
    if ended.outcome == "done" and measured is not None and measured.diverged:
        yield f"the smoke run diverged ({measured.diverged}); {goes_on}"
    if ended.outcome == "done" and measured is not None and measured.mean_loss:
        yield (
            "the model returns a mean loss, which HF would multiply by the number of workers and"
            " accumulation steps; sweeps makes HF average it, as model.accepts_loss_kwargs = False"
            " does"
        )
    if ended.outcome in ("error", "preempted"):
        yield f"retrying the smoke run: {ended.message}"
