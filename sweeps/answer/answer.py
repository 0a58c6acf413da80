"""The answer of a sweep: who won, by how much, at what cost, and what cannot be told apart.

Computed in the sweep process, the verbs and the trackers. Everything that says who won prints this
value; it must not know how it is printed.
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
from sweeps.answer.gain import Baseline, Compared, find_baseline, find_compared
from sweeps.answer.row_noise import Comparison, compare, lead_by_noise, over_seeds_and_rows
from sweeps.answer.seed_statistics import LEVEL, holm, paired_differences, paired_t, z_test
from sweeps.answer.standing import Standing, error_over_rows, standing
from sweeps.records.history import History, SweepStatus
from sweeps.records.params_set import ParamsSet
from sweeps.report import difference, rounded


@dataclass(frozen=True, kw_only=True)
class RowNoise:
    """How far the winner is ahead, and how much of that the choice of evaluation rows explains."""

    trials: int
    """Number of finished trials that can be compared row by row, including the winner."""
    lead: float
    """How much better the winner's value is than the mean of these trials."""
    by_noise: float
    """The lead to expect if all of them were equally good."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a sweep has found so far, or in the end."""

    metric: str
    mode: str
    status: SweepStatus
    """How the sweep ended, or that it is running."""
    reason: str | None
    """Why it failed, or that the time budget ended it."""
    winner: Standing | None
    """The best trial of the best params; None before the first value."""
    baseline: Baseline | None
    """None if the space has no `first_params`, or they have no value."""
    compared: Compared | None
    """The means of the winner and the baseline, both taken after as much training as the baseline
    got (`Baseline.progress`). None if there is no baseline, or if the two cannot be compared
    fairly."""
    gain: float | None
    """How much better the winner's mean in `compared` is, in units of the metric; it may be
    negative."""
    majority: float | None
    """The score, on the winner's rows, of a model that always predicts their most frequent label;
    None if the metric is not the share of rows that are right."""
    tied: tuple[str, ...]
    """Other params sets that may win and whose mean is the winner's, up to rounding, but that were
    suggested later."""
    not_told_apart: tuple[str, ...] | None
    """Other params sets, best first, that the sweep cannot tell apart from the winner: a test finds
    no difference at 5 %, adjusted by Holm's method for the number of params sets, because the
    winner is the best of all of them. It was chosen on the data that it is tested on, so this
    bounds the rate of wrong findings of a comparison, and not that of a sweep. Params that cannot
    be tested count, too. None if nothing can be tested."""
    why_not_tested: str | None
    """Why nothing can be tested, although other params have a value; None otherwise."""
    row_noise: RowNoise | None
    """What the choice of rows may explain; None with repeats, or if the rows are not known."""
    trials: Mapping[str, int]
    """Trials by how they ended: `finished`, `stopped_early`, `failed`, `not_ended`."""
    failures: Mapping[str, int]
    """Failed trials by kind of failure, for the kinds that occurred."""
    device_s: float
    """Device-seconds of all attempts and smoke runs."""
    confirmation: Confirmed | None
    """What fresh seeds say about the winner; None: `confirm` has not begun."""

    def in_json(self) -> dict[str, Any]:
        """Return the fields as values for strict JSON."""
        fields: dict[str, Any] = finite(self)
        return fields


def find_answer(history: History, status: SweepStatus, now: float | None = None) -> Answer:
    """Return the answer according to the events so far.

    Args:
        history: The events so far, folded.
        status: Whether the sweep is running, or how it ended.
        now: Unix time up to which running trials cost device time; None: the newest event.
    """
    trial = history.winner()
    winner = standing(history, trial) if trial is not None else None
    baseline = find_baseline(history, status)
    by_rows = _compare_by_rows(history, winner)
    close, why_not_tested = _not_told_apart(history, winner, by_rows)
    compared = None
    if trial is not None and baseline is not None:
        compared = find_compared(history, history.set_of(trial), baseline)
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
        compared=compared,
        gain=compared.gain(history.mode) if compared is not None else None,
        majority=_majority(history, winner),
        tied=_tied(history, winner),
        not_told_apart=close,
        why_not_tested=why_not_tested,
        row_noise=_row_noise(history, winner, by_rows),
        trials={**by_end, "not_ended": len(history.trials) - sum(by_end.values())},
        failures=dict(Counter(t.failure for t in history.trials.values() if t.failure)),
        device_s=history.device_s_by(until) if until is not None else 0.0,
        confirmation=find_confirmed(history),
    )


def _majority(history: History, winner: Standing | None) -> float | None:
    if winner is None:
        return None
    best = history.best(history.trials[winner.trial])
    return best.majority if best is not None else None


def _tied(history: History, winner: Standing | None) -> tuple[str, ...]:
    """Return the params sets that rank behind the winner's only because of their number."""
    if winner is None:
        return ()
    sets = history.sets()
    own = next(one for one in sets if one.id == winner.params_set)
    standing = own.complete, own.lacks_seeds
    return tuple(
        one.id
        for one in sets[sets.index(own) + 1 :]
        if one.mean is not None
        and rounded(one.mean) == rounded(winner.mean)
        and (one.complete, one.lacks_seeds) == standing
        and history.may_win(one)
    )


def _compare_by_rows(history: History, winner: Standing | None) -> Mapping[str, Comparison]:
    """Return how the winner compares with each trial, itself included, where rows are known.

    Empty with repeats: params sets are then compared over their seeds as well.
    """
    if winner is None or history.repeats > 1:
        return {}
    winning = history.best(history.trials[winner.trial])
    assert winning is not None, "it has won"
    bests = ((name, history.best(trial)) for name, trial in history.trials.items())
    return {
        name: found
        for name, best in bests
        if best is not None and (found := compare(winning, best)) is not None
    }


def _not_told_apart(
    history: History, winner: Standing | None, by_rows: Mapping[str, Comparison]
) -> tuple[tuple[str, ...] | None, str | None]:
    """Return the params sets that may equal the winner's, except those whose trials all failed.

    Returns:
        These and None; or None and why nothing can be tested.
    """
    if winner is None:
        return None, None
    own = history.set_of(history.trials[winner.trial])
    others = [
        other
        for other in history.sets()
        if other.id != own.id
        and other.mean is not None
        and any(trial.status != "failed" for trial in other.trials)
    ]
    p_values = [_p_value(own, other, history, by_rows) for other in others]
    if not others:
        return None, None
    if all(p is None for p in p_values):
        return None, _why_not_tested(history, winner)
    adjusted = iter(holm([p for p in p_values if p is not None]))
    close = [
        one
        for one, p in zip(others, p_values, strict=True)
        if p is None or next(adjusted) > 1 - LEVEL
    ]
    close.sort(key=lambda one: one.mean or 0.0, reverse=history.mode == "max")
    return tuple(one.id for one in close), None


def _why_not_tested(history: History, winner: Standing) -> str:
    if history.repeats > 1:
        return "no other params have two seeds in common with it"
    return winner.why_no_error or f"nothing is known of what each row adds to {history.metric}"


def _p_value(
    own: ParamsSet, other: ParamsSet, history: History, by_rows: Mapping[str, Comparison]
) -> float | None:
    """Return the p-value for two params sets being equally good; None if no test is possible.

    Without repeats, only the choice of rows counts as chance: row by row if the rows are known,
    otherwise by the standard error of each value.
    """
    if history.repeats > 1:
        return _p_value_over_seeds(own, other, history)
    if other.id in by_rows:
        return by_rows[other.id].p_value
    one, another = history.best(own.trials[0]), history.best(other.trials[0])
    assert one is not None, "it has won"
    assert another is not None, "it has a value"
    error, of_other = (error_over_rows(each, history.metric).error for each in (one, another))
    if error is None or of_other is None:
        return None
    gap = difference(one.metrics[history.metric], another.metrics[history.metric])
    return z_test(gap / math.hypot(error, of_other))


def _p_value_over_seeds(own: ParamsSet, other: ParamsSet, history: History) -> float | None:
    """Return the p-value over the seeds that both have and, if they are known, the rows as well."""
    by_seed = {t.seed: history.best(t) for t in other.trials}
    pairs = [
        (best, others)
        for trial in own.trials
        if (best := history.best(trial)) is not None
        and (others := by_seed.get(trial.seed)) is not None
    ]
    if (found := over_seeds_and_rows(pairs)) is not None:
        return found.p_value
    metric = history.metric
    values = [(one.metrics[metric], another.metrics[metric]) for one, another in pairs]
    return paired_t(paired_differences(values)) if len(values) > 1 else None


def _row_noise(
    history: History, winner: Standing | None, by_rows: Mapping[str, Comparison]
) -> RowNoise | None:
    """Return how far chance in the rows may explain the winner's lead, without repeats.

    None until the winner has finished: it is then one of the trials that it is compared with.
    """
    if winner is None or history.trials[winner.trial].status != "finished":
        return None
    others = {
        name: found
        for name, found in by_rows.items()
        if name != winner.trial and history.trials[name].status == "finished"
    }
    if (by_noise := lead_by_noise([*others.values()])) is None:
        return None
    values = [history.value(history.trials[name]) for name in (winner.trial, *others)]
    mean = statistics.fmean(value for value in values if value is not None)
    lead = winner.value - mean if history.mode == "max" else mean - winner.value
    return RowNoise(trials=len(values), lead=lead, by_noise=by_noise)


def finite(value: Any) -> Any:
    """Return the value for strict JSON: a dataclass as a mapping, NaN and inf as None."""
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
