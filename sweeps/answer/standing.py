"""How well a trial did, and how precisely that is known: its value, standard error and interval.

Computed wherever the answer is. It must not know who won.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sweeps.answer.seed_statistics import Estimate, estimate, t_quantile
from sweeps.records.events import CheckpointSaved
from sweeps.records.history import History
from sweeps.records.params_set import ParamsSet
from sweeps.records.row_values import row_values, spread
from sweeps.records.trial import Trial
from sweeps.report import Report, may_be_share_of_rows

SHARES = ("accuracy", "f1", "precision", "recall")
"""Suffixes of the names of metrics that lie between 0 and 1."""
NORMAL = 1.96
"""Half-width of the 95 % interval of a share of rows, in standard errors."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How well a trial did, and the params set that it belongs to."""

    trial: str
    params_set: str
    """Id of the first trial with these params; without repeats, the trial's own id."""
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
    """What the params are judged by: the mean of their trials' best values; without repeats,
    `value`."""
    seeds: int
    """Trials in the mean."""
    repeats: int
    """Number of trials that the params will have."""
    checkpoint: CheckpointSaved | None
    """Its newest complete best checkpoint, or None."""
    error: float | None
    """Standard error of `mean`. With repeats, it is taken over the seeds (std / sqrt(n)). Otherwise
    it is taken over the n evaluation rows: for a share of rows, sqrt(p (1 - p) / n) after adding
    two successes and two failures (Agresti and Coull 1998; without them, the interval of a share
    near 0 or 1 is too narrow); for other metrics, std / sqrt(n) of their `row_values`. None if
    neither applies, or if all seeds or rows are equal: that does not show how others may be."""
    why_no_error: str | None
    """Why `error` is None."""
    df: int | None
    """Degrees of freedom of `error`; None if it is that of a share of rows, or not known."""
    center: float
    """The middle of its 95 % interval: `mean`; for a share of rows, the share after adding two
    successes and two failures."""


@dataclass(frozen=True)
class Precision:
    """How precisely a value is known."""

    center: float
    """See `Standing.center`."""
    error: float | None = None
    """See `Standing.error`."""
    df: int | None = None
    """See `Standing.df`."""
    why_not: str | None = None
    """See `Standing.why_no_error`."""


def standing(history: History, trial: Trial) -> Standing | None:
    """Return how well a trial did; None if it has no value yet."""
    best, own = history.best(trial), history.set_of(trial)
    if best is None:
        return None
    assert own.mean is not None, "the trial has a value"
    over = _over_seeds(own) if own.repeats > 1 else error_over_rows(best, history.metric)
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
        error=over.error,
        why_no_error=over.why_not,
        df=over.df,
        center=over.center,
    )


def interval(own: Standing, metric: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean; None if its error is not known."""
    if own.error is None:
        return None
    half = (NORMAL if own.df is None else t_quantile(own.df)) * own.error
    return _within_bounds(own.center - half, own.center + half, own.mean, metric)


def mean_over_seeds(values: Sequence[float], metric: str) -> Estimate | None:
    """Return the mean of a metric over seeds, with its interval; None without values."""
    found = estimate(values)
    if found is None or found.low is None or found.high is None:
        return found
    low, high = _within_bounds(found.low, found.high, found.mean, metric)
    return replace(found, low=low, high=high)


def _within_bounds(low: float, high: float, mean: float, metric: str) -> tuple[float, float]:
    """Return the ends of an interval; for a share, they are at least 0 and at most 1."""
    is_share = metric.endswith(SHARES) and 0 <= mean <= 1  # not in percent
    return (max(0.0, low), min(1.0, high)) if is_share else (low, high)


def _over_seeds(own: ParamsSet) -> Precision:
    """Return how precisely the mean of a params set is known over its seeds."""
    assert own.mean is not None, "it has a value"
    seeds = len(own.values)
    if own.error is not None:
        return Precision(own.mean, own.error, df=seeds - 1)
    why = "all its seeds have the same value" if seeds > 1 else "only one of its seeds has a value"
    return Precision(own.mean, why_not=why)


def error_over_rows(report: Report, metric: str) -> Precision:
    """Return how precisely a metric is known over the evaluation rows."""
    share, rows = report.metrics[metric], report.eval_rows
    # Tokens are not independent, so a share of tokens does not count as a share of rows.
    of_rows = may_be_share_of_rows(metric) and report.labels_per_row in (None, 1)
    if of_rows and not report.classes_differ and rows and 0 <= share <= 1:  # not in percent
        center = (share * rows + 2) / (rows + 4)
        return Precision(center, math.sqrt(center * (1 - center) / (rows + 4)))
    values = row_values(report)
    if values is None:
        unknown = f"nothing is known of what each row adds to {metric}"
        differ = f"the predicted classes do not give {metric}"
        return Precision(share, why_not=differ if report.classes_differ else unknown)
    if len(values) < 2 or spread(values) == 0:
        return Precision(share, why_not=f"every row adds the same to {metric}")
    return Precision(share, spread(values) / math.sqrt(len(values)), df=len(values) - 1)
