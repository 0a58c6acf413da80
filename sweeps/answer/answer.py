"""The answer of a sweep: who won, by how much, at what cost, and what cannot be told apart.

Computed wherever someone asks: in the sweep process, the verbs, the trackers. Everything that says
who won prints this value; it must not know how it is printed.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.answer.confirmation import Confirmed, find_confirmed
from sweeps.answer.row_noise import lead_by_noise, mcnemar, only_right_in
from sweeps.answer.seed_statistics import LEVEL
from sweeps.records.events import CheckpointSaved
from sweeps.records.history import History, SweepStatus
from sweeps.records.params_set import ParamsSet
from sweeps.records.trial import Trial, TrialStatus
from sweeps.report import Report, may_be_share_of_rows


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How well a trial did, and the params set that it belongs to."""

    trial: str
    params_set: str
    """Id of the first trial with these params; the trial's own without repeats."""
    params: Mapping[str, Any]
    value: float
    """The trial's best value of the metric."""
    step: int
    """Optimizer steps done at that value."""
    max_steps: int
    """Optimizer steps of the complete trial."""
    epoch: float
    progress: float
    """Share of the trial done at that value, in (0, 1]."""
    mean: float
    """What the params are judged by: the mean of their trials' best values; `value` without
    repeats."""
    seeds: int
    """Trials in the mean."""
    repeats: int
    """Trials that the params are to have."""
    checkpoint: CheckpointSaved | None
    """Its newest complete best checkpoint, or None."""
    error: float | None
    """Standard error of `mean`: over the seeds (std / sqrt(n)) with repeats; else that of a share
    of the n rows of the judged set, which is binomial (sqrt(p (1 - p) / n)). None where neither
    applies."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The params that the winner is compared with: `first_params[0]`."""

    params_set: str
    mean: float
    """What they are judged by, as in `Standing`."""
    status: TrialStatus
    """Of their first trial."""


@dataclass(frozen=True, kw_only=True)
class RowNoise:
    """How far the winner is ahead, beside what the choice of evaluation rows alone would do."""

    trials: int
    """Finished trials whose right rows are known, the winner among them."""
    lead: float
    """The winner's value minus the mean of these trials."""
    by_noise: float
    """The lead to expect if all of them were equally good."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a sweep has found so far, or at its end."""

    metric: str
    mode: str
    status: SweepStatus
    """How the sweep ended, or that it runs."""
    reason: str | None
    """Why it failed, or that the time budget ended it."""
    winner: Standing | None
    """The best trial of the best params; None before the first value."""
    baseline: Baseline | None
    """None where the space has no `first_params`, or they have no value."""
    gain: float | None
    """How much better the winner's mean is than the baseline's, in units of the metric; None
    without both. Negative only where the baseline is better but failed or lacks seeds."""
    tied: tuple[str, ...]
    """Other params sets with exactly the winner's mean; the winner's was suggested before them."""
    not_told_apart: tuple[str, ...] | None
    """Other params sets, best first, that the sweep cannot tell from the winner. Without repeats,
    and where it is known which rows each trial got right: McNemar's exact test finds no difference
    (p > 0.05). Else the mean is at most one standard error from the winner's. None where neither is
    known."""
    row_noise: RowNoise | None
    """What the rows alone may have done; None where it is not known which each trial got right."""
    trials: Mapping[str, int]
    """Trials by how they ended: `finished`, `stopped_early`, `failed`, `not_ended`."""
    failures: Mapping[str, int]
    """Failed trials by the kind of failure; kinds that occurred."""
    device_s: float
    """Device-seconds of all attempts and smoke runs."""
    confirmation: Confirmed | None
    """What fresh seeds say of the winner; None: `confirm` has not begun."""

    def in_json(self) -> dict[str, Any]:
        """Return the fields as strict JSON keeps them."""
        fields: dict[str, Any] = finite(self)
        return fields


def find_answer(history: History, status: SweepStatus, now: float | None = None) -> Answer:
    """Return the answer that the events so far give.

    Args:
        history: What happened.
        status: Whether the sweep runs, or how it ended.
        now: Unix time up to which running trials cost device time; None: the newest event.
    """
    trial = history.winner()
    winner = standing(history, trial) if trial is not None else None
    baseline = _baseline(history)
    gain = None
    if winner is not None and baseline is not None:
        gain = winner.mean - baseline.mean if history.mode == "max" else baseline.mean - winner.mean
    ends = Counter(trial.status for trial in history.trials.values())
    by_end = {end: ends[end] for end in ("finished", "stopped_early", "failed")}
    until = now if now is not None else history.newest
    return Answer(
        metric=history.metric,
        mode=history.mode,
        status=status,
        reason=history.ended.reason if history.ended is not None else None,
        winner=winner,
        baseline=baseline,
        gain=gain,
        tied=_tied(history, winner),
        not_told_apart=_not_told_apart(history, winner),
        row_noise=_row_noise(history, winner),
        trials={**by_end, "not_ended": len(history.trials) - sum(by_end.values())},
        failures=dict(Counter(t.failure for t in history.trials.values() if t.failure)),
        device_s=history.device_s_by(until) if until is not None else 0.0,
        confirmation=find_confirmed(history),
    )


def standing(history: History, trial: Trial) -> Standing | None:
    """Return how well a trial did; None where it has no value yet."""
    best, own = history.best(trial), history.set_of(trial)
    if best is None:
        return None
    assert own.mean is not None, "the trial has a value"
    return Standing(
        trial=trial.id,
        params_set=own.id,
        params=trial.params,
        value=best.metrics[history.metric],
        step=best.step,
        max_steps=best.max_steps,
        epoch=best.epoch,
        progress=best.progress,
        mean=own.mean,
        seeds=len(own.values),
        repeats=own.repeats,
        checkpoint=trial.checkpoints.get("best"),
        error=own.error if own.repeats > 1 else _binomial_error(best, history.metric),
    )


def _binomial_error(report: Report, metric: str) -> float | None:
    """Return the standard error of a share of rows, or None for anything else."""
    if not may_be_share_of_rows(metric) or not report.eval_rows:
        return None
    if report.labels_per_row not in (None, 1):  # a share of tokens, which are not independent
        return None
    share = report.metrics[metric]
    if not 0 <= share <= 1:  # in percent, or no accuracy at all
        return None
    return math.sqrt(share * (1 - share) / report.eval_rows)


def _baseline(history: History) -> Baseline | None:
    first = history.baseline()
    if first is None:
        return None
    own = history.set_of(first)
    assert own.mean is not None, "a baseline has a value"
    return Baseline(params_set=own.id, mean=own.mean, status=first.status)


def _tied(history: History, winner: Standing | None) -> tuple[str, ...]:
    """Return the params sets that only their number puts behind the winner's."""
    if winner is None:
        return ()
    sets = history.sets()
    own = next(one for one in sets if one.id == winner.params_set)
    standing = own.mean, own.complete, own.lacks_seeds
    return tuple(
        one.id
        for one in sets[sets.index(own) + 1 :]
        if (one.mean, one.complete, one.lacks_seeds) == standing
    )


def _not_told_apart(history: History, winner: Standing | None) -> tuple[str, ...] | None:
    """Return the params sets like the winner's; those that only failed do not compete."""
    if winner is None or winner.error is None:
        return None
    close = [
        own
        for own in history.sets()
        if own.id != winner.params_set
        and own.mean is not None
        and any(trial.status != "failed" for trial in own.trials)
        and _is_like(own, winner, history)
    ]
    close.sort(key=lambda own: own.mean or 0.0, reverse=history.mode == "max")
    return tuple(own.id for own in close)


def _is_like(own: ParamsSet, winner: Standing, history: History) -> bool:
    """Tell whether the sweep cannot tell a params set with a value from the winner's."""
    best, winning = history.best(own.trials[0]), history.best(history.trials[winner.trial])
    assert own.mean is not None, "it has a value"
    assert winner.error is not None, "its error is known"
    if history.repeats == 1 and best is not None and winning is not None:
        pair = only_right_in(winning, best)
        if pair is not None:
            return mcnemar(*pair) > 1 - LEVEL
    return abs(own.mean - winner.mean) <= winner.error


def _row_noise(history: History, winner: Standing | None) -> RowNoise | None:
    """Return what the rows may have done to the order of the finished trials, without repeats."""
    if winner is None or history.repeats > 1 or history.mode == "min":
        return None
    winning = history.best(history.trials[winner.trial])
    assert winning is not None, "it has won"
    finished = [history.best(t) for t in history.trials.values() if t.status == "finished"]
    others = [
        best
        for best in finished
        if best is not None and best.trial != winning.trial and only_right_in(winning, best)
    ]
    reports = [winning, *others]
    if (by_noise := lead_by_noise(reports)) is None:
        return None
    mean = statistics.fmean(report.metrics[history.metric] for report in reports)
    return RowNoise(trials=len(reports), lead=winner.value - mean, by_noise=by_noise)


def finite(value: Any) -> Any:
    """Return the value as strict JSON keeps it: a dataclass as a mapping, NaN and inf as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: finite(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return value
