"""How much better the winner is than the first params, after the same share of training.

Runs wherever the answer is computed. It must not know where its words are shown.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from sweeps.answer.digits import digits_to_tell_apart, number, percent
from sweeps.records.history import History, SweepStatus, trial_status
from sweeps.records.params_set import ParamsSet
from sweeps.records.trial import Trial, TrialStatus
from sweeps.report import Mode, better, difference, reached


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The params that the winner is compared with: `first_params[0]`."""

    params_set: str
    mean: float
    """What they are judged by, as in `Standing`."""
    status: TrialStatus
    """The status of their trial or, with repeats, of the one that has trained least."""
    progress: float
    """Share of the trial that it has trained, in [0, 1]; 1 if it has finished."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The means of the winner and the baseline, after as much training as the baseline got."""

    winner: float
    baseline: float

    def gain(self, mode: Mode) -> float:
        """Return how much better the winner's is."""
        ours, theirs = self.winner, self.baseline
        return difference(*((ours, theirs) if mode == "max" else (theirs, ours)))


def find_baseline(history: History, status: SweepStatus) -> Baseline | None:
    """Return the baseline; None if the space has no `first_params`, or they have no value."""
    first = history.baseline()
    if first is None:
        return None
    own = history.set_of(first)
    assert own.mean is not None, "a baseline has a value"
    least = min(own.trials, key=_trained)
    return Baseline(
        params_set=own.id,
        mean=own.mean,
        status=trial_status(least, status),
        progress=_trained(least),
    )


def find_compared(history: History, winner: ParamsSet, baseline: Baseline) -> Compared | None:
    """Return the means of what both had reached by the baseline's progress.

    Returns:
        None if one of them lacks a value there, or if they have different numbers of trials.
    """
    first = history.set_of(history.trials[baseline.params_set])
    if len(winner.trials) != len(first.trials):
        return None
    ours = [_best_by(trial, baseline.progress, history) for trial in winner.trials]
    theirs = [_best_by(trial, baseline.progress, history) for trial in first.trials]
    found = [[value for value in values if value is not None] for values in (ours, theirs)]
    if any(len(values) < len(first.trials) for values in found):
        return None
    return Compared(winner=statistics.fmean(found[0]), baseline=statistics.fmean(found[1]))


def gain_in_words(
    winner: str, baseline: Baseline, compared: Compared | None, gain: float | None
) -> str:
    """Return what is said about the gain, such as `0.03 better than the first params (t001: 0.9)`.

    Args:
        winner: The winner's params set.
        baseline: What it is compared with.
        compared: See `find_compared`.
        gain: The gain according to `compared`.
    """
    first = baseline.params_set
    if winner == first:
        return f"these are the first params ({winner})"
    status = baseline.status.replace("_", " ")
    if compared is None or gain is None:
        at = f", {status} at {percent(baseline.progress)} of the trial"
        how_far = at if baseline.progress < 1 else ""
        return (
            f"no fair comparison with the first params ({first}: {number(baseline.mean)}{how_far})"
            " is possible"
        )
    by = "no better" if gain == 0 else f"{number(abs(gain))} {'better' if gain > 0 else 'worse'}"
    digits = digits_to_tell_apart((compared.winner, compared.baseline))
    ours, theirs = (number(value, digits) for value in (compared.winner, compared.baseline))
    if baseline.progress == 1:
        return f"{by} than the first params ({first}: {theirs})"
    return (
        f"compared at {percent(baseline.progress)} of the trial, where the first params ({first},"
        f" {status}) ended: {ours} against {theirs}, {by}"
    )


def _trained(trial: Trial) -> float:
    if trial.status == "finished":
        return 1.0
    return trial.reports[-1].progress if trial.reports else 0.0


def _best_by(trial: Trial, progress: float, history: History) -> float | None:
    """Return a trial's best value up to a share of its training, or None.

    Trials with different numbers of steps evaluate within one step of the same share, so a report
    counts if the trial had not reached this share one step before.
    """
    best = None
    for report in trial.reports:
        value = report.value(history.metric)
        on_time = not reached((report.step - 1) / report.max_steps, progress)
        if on_time and better(value, best, history.mode):
            best = value
    return best
