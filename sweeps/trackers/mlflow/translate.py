"""What MLflow's runs get from the events of a sweep: one for the sweep, one nested for each trial.

A fold over the event log in the writer process. It must not know MLflow's client, nor what has
been written already: equal events give equal values with equal timestamps, which MLflow keeps once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.records.sweep_record import SweepRecord
from sweeps.records.trial import Trial
from sweeps.report import Report, better
from sweeps.trackers.mlflow.state import PARENT
from sweeps.trackers.mlflow.values import (
    NewRun,
    Point,
    RunStatus,
    RunUpdate,
    clean,
    color,
    ms,
    shorten,
)

RUN_STATUS: dict[str, RunStatus] = {
    "finished": "FINISHED",
    "stopped_early": "FINISHED",
    "failed": "FAILED",
}
"""Of a trial or sweep that has ended, by its status in the history."""


class Translator:
    """Feed it every event in order with `apply`; `take` what has come together since.

    Args:
        record: `sweep.json`.
    """

    def __init__(self, record: SweepRecord) -> None:
        self.record = record
        self.metric = clean(record.space.metric)
        self.history = History(*record.judged_by)
        self.reported: dict[tuple[str, int], float] = {}
        """Unix time of each report, by trial id and report number."""
        self._updates: dict[str, RunUpdate] = {}
        self._started: dict[str, float] = {}
        self._clock: dict[str, tuple[float, int]] = {}
        self._best: float | None = None

    def take(self) -> dict[str, RunUpdate]:
        """Return the updates since the last call, by trial id and `PARENT`."""
        updates, self._updates = self._updates, {}
        return updates

    def new_run(self, key: str) -> NewRun:
        """Return what a run of the sweep is created with."""
        record = self.record
        git = record.git
        tags = {
            "sweep.key": f"{record.sweep}/{key}".rstrip("/"),
            "sweep.id": record.sweep,
            "sweep.space": record.space.name,
            "mlflow.user": record.user,
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": record.command,
            "mlflow.source.git.commit": git.commit if git else None,
            "mlflow.source.git.branch": git.branch if git else None,
            "mlflow.source.git.repoURL": git.url if git else None,
            "sweep.git.dirty": str(git.dirty).lower() if git else None,
        }
        if key != PARENT:
            tags |= {
                "sweep.trial": key,
                "sweep.origin": self.history.trials[key].origin,
                "sweep.repeat_of": self.history.trials[key].of,
                "mlflow.runColor": color(key),
            }
        started = self._started.get(key, self.history.started)
        assert started is not None, "a log begins with the start of the sweep"
        name = key or record.sweep
        return NewRun(name, ms(started), {k: v for k, v in tags.items() if v})

    def apply(self, event: ev.Event) -> None:
        """Take in one event."""
        self.history.apply(event)
        match event:
            case ev.SweepStarted():
                update = self._update(PARENT)
                update.status = ("RUNNING", None)
                update.tags["sweep.status"] = "running"
                update.params |= self._named("tuned.", self.record.space.domains)
            case ev.JobStarted():
                self._begin(event.trial, event.time)
                _, step = self._clock.get(event.trial, (0.0, 0))
                self._clock[event.trial] = (event.time, step)
                self._update(event.trial).status = ("RUNNING", None)
                self._show_status(event.trial)
            case ev.Reported():
                self._report(event.report, event.time)
            case ev.AttemptEnded() | ev.TrialResumed():
                self._show_status(event.trial)
            case ev.TrialEnded():
                self._begin(event.trial, event.time)
                self._update(event.trial).status = (RUN_STATUS[event.status], ms(event.time))
                self._show_status(event.trial)
                self._show_best(event.trial, event.time)
            case ev.SweepEnded():
                self._close(RUN_STATUS[event.status], event.status, event.time)
                if event.reason:
                    self._update(PARENT).tags["sweep.reason"] = event.reason

    def interrupt(self) -> None:
        """Close what is open: the sweep process is gone without an end."""
        assert self.history.newest is not None, "nothing has begun"
        self._close("KILLED", "interrupted", self.history.newest)

    def tracebacks(self) -> dict[tuple[str, str], str]:
        """Return the tracebacks of all failed attempts by trial id and file name."""
        return {
            (trial.id, f"traceback-attempt{attempt.attempt}.txt"): attempt.traceback
            for trial in self.history.trials.values()
            for attempt in trial.attempts
            if attempt.traceback
        }

    def _update(self, key: str) -> RunUpdate:
        return self._updates.setdefault(key, RunUpdate())

    def _named(self, prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
        return {clean(prefix + name): shorten(value) for name, value in values.items()}

    def _begin(self, key: str, time: float) -> None:
        """Note a trial's first job; its run has the fixed arguments beside the params."""
        if key not in self._started:
            self._started[key] = time
            trial = self.history.trials[key]
            seed = {} if trial.seed is None else {"seed": trial.seed}
            values = {**self.record.space.fixed, **seed, **trial.params}
            self._update(key).params |= self._named("", values)

    def _show_status(self, key: str) -> None:
        trial, tags = self.history.trials[key], self._update(key).tags
        tags["sweep.status"] = trial.status
        if trial.status == "failed":
            tags["sweep.failure"] = trial.failure or "error"
            if cause := _cause(trial):
                tags["sweep.error"] = cause

    def _report(self, report: Report, time: float) -> None:
        self.reported[report.trial, report.number] = time
        values: dict[str, float] = {clean(name): value for name, value in report.metrics.items()}
        values |= {"progress": report.progress, "epoch": report.epoch}
        points = [Point(name, value, ms(time), report.step) for name, value in values.items()]
        last_time, last_step = self._clock.get(report.trial, (time, 0))
        for entry in report.log_entries:
            share = (entry.step - last_step) / max(report.step - last_step, 1)
            at = ms(last_time + (time - last_time) * min(max(share, 0.0), 1.0))
            for name in ("loss", "learning_rate"):
                value = getattr(entry, name)
                if value is not None:
                    points.append(Point(name, value, at, entry.step))
        self._clock[report.trial] = (time, report.step)
        finite = [point for point in points if math.isfinite(point.value)]
        if lost := len(points) - len(finite):
            finite.append(Point("nonfinite", lost, ms(time), report.step))
            self._update(report.trial).tags["nonfinite"] = "true"
        if self.history.best(self.history.trials[report.trial]) is report:
            best = report.metrics[self.record.space.metric]
            finite.append(Point(f"best_{self.metric}", best, ms(time), report.step))
            self._show_best(report.trial, time)
        self._update(report.trial).points += finite

    def _show_best(self, key: str, time: float) -> None:
        """Give the sweep a new best value if the trial's params have a better one."""
        own = self.history.set_of(self.history.trials[key])
        mean = own.mean if own.complete else None
        if mean is not None and better(mean, self._best, self.history.mode):
            self._best = mean
            point = Point(f"best_{self.metric}", mean, ms(time), len(self.reported))
            self._update(PARENT).points.append(point)

    def _close(self, status: RunStatus, word: str, time: float) -> None:
        update = self._update(PARENT)
        update.status = (status, ms(time))
        winner = self.history.winner()
        own = self.history.set_of(winner) if winner is not None else None
        if own is not None and own.mean is not None and not own.complete:
            # All sets were cut off; a resume that completes one says what it comes to.
            step = len(self.reported)
            update.points.append(Point(f"best_{self.metric}", own.mean, ms(time), step))
        update.tags["sweep.status"] = word
        for key in self._started:
            if self.history.trials[key].status not in RUN_STATUS:
                open_run = self._update(key)
                open_run.status = ("KILLED", ms(time))
                paused = self.history.trials[key].status == "paused"
                open_run.tags["sweep.status"] = "paused" if paused else "waiting"


def _cause(trial: Trial) -> str | None:
    """Return one line that says why a trial failed."""
    if trial.diverged:
        return trial.diverged
    if not trial.attempts:
        return None
    last = trial.attempts[-1]
    lines = (last.traceback or "").strip().splitlines()
    return last.message or (lines[-1] if lines else None)
