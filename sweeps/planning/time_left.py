"""Estimates how long a sweep will still take, from measurements so far.

Pure; used by the live table and `plan`. It must not know how the estimate is displayed.
"""

from __future__ import annotations

from collections.abc import Callable

from sweeps.config import SweepConfig
from sweeps.planning.forecast import Expectation
from sweeps.records.events import SmokeMeasured
from sweeps.records.history import History
from sweeps.records.trial import Trial


def trial_s(measured: SmokeMeasured, evaluations: int) -> float | None:
    """Return the seconds of a complete trial, estimated from the smoke run.

    None if that is not possible.
    """
    if measured.step_s is None or (measured.batches and measured.batch_s is None):
        return None
    return measured.steps * measured.step_s + _evaluations_s(measured, evaluations)


def share_of_evaluations(measured: SmokeMeasured, evaluations: int) -> float | None:
    """Return the fraction of a complete trial that its evaluations take; None if not measured."""
    if not measured.batches or not (whole_s := trial_s(measured, evaluations)):
        return None
    return _evaluations_s(measured, evaluations) / whole_s


def _evaluations_s(measured: SmokeMeasured, evaluations: int) -> float:
    """Return the seconds of all evaluations of a complete trial."""
    each_s = (measured.batches or 0) * (measured.batch_s or 0.0)
    return min(evaluations, measured.steps) * each_s


def whole_trial_s(history: History, evaluations: int) -> float | None:
    """Estimate the seconds of a complete trial from the reports so far, or else the smoke run."""
    if (found_s := _per_trial(history, _group_s)) is not None:
        return found_s
    return trial_s(history.measured, evaluations) if history.measured else None


def whole_trial_device_s(history: History) -> float | None:
    """Estimate the device-seconds of a complete trial; None before any report."""
    return _per_trial(history, _device_s)


def time_left(
    history: History,
    config: SweepConfig,
    expected: Expectation,
    *,
    groups: int,
    evaluations: int,
    now: float,
) -> float | None:
    """Estimate the seconds until the last trial or the time budget ends.

    None before any measurement.

    Args:
        history: The sweep so far.
        config: Number of trials, and the time budget.
        expected: The forecast for all trials.
        groups: Number of concurrent trials.
        evaluations: Number of evaluations of a complete trial.
        now: Unix time.
    """
    whole_s = whole_trial_s(history, evaluations)
    if whole_s is None:
        return None
    trials = history.trials.values()
    each = expected.work / config.num_trials
    to_come = max(0, config.num_trials - len(trials)) + sum(t.job is None for t in trials)
    running = [t for t in trials if t.job and not t.ended]
    rest = [_rest(trial, each) for trial in running]
    work = to_come * each + sum(rest)
    at_once = min(groups, to_come + len(running))
    left = work * whole_s / max(1, at_once)
    if config.time_budget is not None:
        used_s = history.used_s_by(now)
        left = min(left, max(0.0, config.time_budget.total_seconds() - used_s))
    return left


def _group_s(trial: Trial) -> float:
    """Return the seconds that groups spent on the trial, up to its latest report or its end."""
    return trial.group_s + trial.running_train_s


def _device_s(trial: Trial) -> float:
    """Return the device-seconds of the trial, up to its latest report or its end."""
    assert trial.job is not None
    return trial.device_s + trial.running_train_s * trial.job.devices


def _per_trial(history: History, spent_s: Callable[[Trial], float]) -> float | None:
    """Estimate how long a complete trial takes; None if no trial has reported."""
    trials = [trial for trial in history.trials.values() if trial.reports]
    done = sum(map(_progress, trials))
    return sum(map(spent_s, trials)) / done if done > 0 else None


def _rest(trial: Trial, each: float) -> float:
    """Estimate the work that an open trial still has to do, in complete trials.

    Args:
        trial: The trial.
        each: The mean work of a trial, including trials that are stopped early.
    """
    done = _progress(trial)
    if done < each:
        return each - done
    # A trial that got further than most will probably run to its end, if it is not paused.
    return 0.0 if trial.status == "paused" else 1 - done


def _progress(trial: Trial) -> float:
    return trial.reports[-1].progress if trial.reports else 0.0
