"""The best value over device time, and the device time that early stopping saved.

A fold over the events of a search. It must not know how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.records.trial import Trial
from sweeps.report import better


@dataclass(frozen=True, kw_only=True)
class Step:
    """A moment at which the best params set changed, or its mean improved."""

    used_s: float
    """Device-seconds used by then."""
    whole_s: float
    """Device-seconds that would have been used by then if no trial had been stopped early."""
    value: float
    """The mean of the best params set; without repeats, the best trial's value."""
    trial: str


@dataclass(frozen=True, kw_only=True)
class BestSoFar:
    """How the best value was reached, and what it cost."""

    steps: tuple[Step, ...]
    """In order of time; the last one has the sweep's answer."""
    reached_s: Mapping[str, float]
    """Device-seconds that the sweep had used when a trial reached its best value, by trial."""
    used_s: float
    """Device-seconds of all attempts and smoke runs."""
    saved_s: float
    """Device-seconds that stopped trials would have needed to finish, at their own pace. Trials
    stopped by a time budget do not count."""
    stopped: int
    """Trials that the scheduler stopped."""


def find_best_so_far(events: Iterable[ev.Event], final: History, used_s: float) -> BestSoFar:
    """Return how the best value was reached.

    Args:
        events: The events of the log, in order.
        final: The history that these events add up to.
        used_s: Device-seconds used in the end.
    """
    winner = final.winner()
    answer = final.set_of(winner).id if winner is not None else None
    competing = {
        own.id
        for own in final.sets()
        if own.id == answer or not any(trial.status == "failed" for trial in own.trials)
    }
    history, meter = History(final.metric, final.mode, final.repeats), _Meter()
    steps: list[Step] = []
    reached: dict[str, float] = {}
    whole_s, stopped = 0.0, 0
    for event in events:
        history.apply(event)
        meter.take(event)
        if isinstance(event, ev.TrialEnded):
            trial = history.trials[event.trial]
            if _was_stopped(trial):
                stopped += 1
                whole_s += trial.device_s * (1 / trial.reports[-1].progress - 1)
        elif isinstance(event, ev.Reported):
            trial = history.trials[event.report.trial]
            if history.best(trial) is not event.report:
                continue
            value = event.report.metrics[final.metric]
            reached[trial.id] = meter.used_s(event.time)
            if final.repeats == 1 and steps and not better(value, steps[-1].value, final.mode):
                continue  # the value is also the mean of its set
        else:
            continue
        if (trial.of or trial.id) not in competing:
            continue
        own = history.set_of(trial)
        if own.mean is None or not own.complete:
            continue
        if better(own.mean, steps[-1].value if steps else None, final.mode):
            used = meter.used_s(event.time)
            steps.append(
                Step(used_s=used, whole_s=used + whole_s, value=own.mean, trial=own.trials[0].id)
            )
    return BestSoFar(
        steps=tuple(steps), reached_s=reached, used_s=used_s, saved_s=whole_s, stopped=stopped
    )


def _was_stopped(trial: Trial) -> bool:
    out_of_time = any(decided.out_of_time for decided in trial.decisions.values())
    return trial.status == "stopped_early" and bool(trial.reports) and not out_of_time


class _Meter:
    """Device-seconds used up to a moment, without adding up all trials each time."""

    def __init__(self) -> None:
        self._ended_s = 0.0
        self._running: dict[str, ev.JobStarted] = {}

    def take(self, event: ev.Event) -> None:
        match event:
            case ev.SweepStarted():
                self._running.clear()
            case ev.JobStarted():
                self._running[event.trial] = event
            case ev.AttemptEnded():
                self._running.pop(event.trial, None)
                self._ended_s += event.device_s
            case ev.SmokeEnded():
                self._ended_s += event.device_s

    def used_s(self, now: float) -> float:
        running = self._running.values()
        return self._ended_s + sum(
            ev.seconds_between(job.time, now) * job.devices for job in running
        )
