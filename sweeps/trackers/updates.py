"""Turns the events of a sweep into updates of runs: one for the sweep and one for each trial.

It is a fold over the event log in the tracker's process. It must not know any tracker, nor what was
written before: equal events give equal updates with equal times.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from sweeps.builders.hub import is_hub_name
from sweeps.builders.revisions import DATASETS
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.records.sweep_record import SweepRecord
from sweeps.records.trial import Trial
from sweeps.report import Report
from sweeps.trackers.base import SWEEP, DataUse, NewRun, Point, RunStatus, RunUpdate

RUN_STATUS: dict[str, RunStatus] = {
    "finished": "finished",
    "stopped_early": "finished",
    "failed": "failed",
}
"""The run status of a trial or sweep that has ended, by its status in the history."""
RANK = "sweep.rank"
"""The tag that sorts trials best first."""
CHOICE = ("dataset", "dataset_config", "train_rows", "eval_rows")
"""Fields of a builder that say which rows it reads."""


class Updates:
    """Feed it every event in order with `apply`; `take` the updates since the last call.

    Args:
        record: `sweep.json`.
    """

    def __init__(self, record: SweepRecord) -> None:
        self._record = record
        self.history = History(*record.judged_by)
        self._updates: dict[str, RunUpdate] = {}
        self._started: dict[str, float] = {}
        self._clock: dict[str, tuple[float, int]] = {}
        """Time and step of each trial's newest report or start."""
        self._best: float | None = None
        self._winner: str | None = None
        """The trial that is marked as the best."""
        self._ranks: dict[str, int] = {}
        self._rank_at = 1
        """Number of reports at which trials are ranked again."""

    def take(self) -> list[RunUpdate]:
        """Return the updates since the last call, the sweep's own first."""
        updates, self._updates = self._updates, {}
        return [updates[key] for key in sorted(updates)]

    def _show_ranks(self) -> None:
        """Number the trials as `results` sorts them.

        A new best changes the number of every trial behind it, so writing each change would cost
        the square of the number of trials. Instead, this happens whenever the number of reports has
        grown by a fifth: about six writes per trial. It depends only on the events, not on when
        updates are taken, so a restarted process knows what the tracker has.
        """
        self._rank_at = math.ceil(1.2 * len(self.history.reports)) or 1
        for place, trial in enumerate(self.history.ranked(), 1):
            if trial.id in self._started and self._ranks.get(trial.id) != place:
                self._ranks[trial.id] = place
                self._update(trial.id).tags[RANK] = f"{place:05}"

    def apply(self, event: ev.Event) -> None:
        """Take in one event."""
        self.history.apply(event)
        match event:
            case ev.SweepStarted():
                self._show_ranks()  # as `interrupt` did, so that `_ranks` is what was written
                update = self._update(SWEEP)
                update.status, update.ended = "running", None
                update.tags["sweep.status"] = "running"
                domains = self._record.space.domains
                update.params |= self._common_params()
                update.params |= {f"tuned.{name}": domain for name, domain in domains.items()}
                update.data = self._data()
            case ev.JobStarted():
                self._begin(event.trial, event.time)
                _, step = self._clock.get(event.trial, (0.0, 0))
                self._clock[event.trial] = (event.time, step)
                update = self._update(event.trial)
                update.status, update.ended = "running", None
                self._show_status(event.trial)
            case ev.Reported():
                self._report(event.report, event.time)
                if len(self.history.reports) >= self._rank_at:
                    self._show_ranks()
            case ev.CheckpointSaved(kind="best"):
                place = f"{self._record.sweep}/{event.path}"
                self._update(event.trial).tags["sweep.checkpoint"] = place
            case ev.CheckpointDropped(kind="best"):
                if "best" not in self.history.trials[event.trial].checkpoints:
                    self._update(event.trial).tags["sweep.checkpoint"] = "deleted"
            case ev.AttemptEnded():
                self._show_status(event.trial)
                self._show_time(event.trial, event.time)
                if event.traceback:
                    name = f"traceback-attempt{event.attempt}.txt"
                    self._update(event.trial).files[name] = event.traceback
            case ev.TrialResumed():
                self._show_status(event.trial)
            case ev.TrialEnded():
                self._begin(event.trial, event.time)
                update = self._update(event.trial)
                update.status, update.ended = RUN_STATUS[event.status], event.time
                self._show_status(event.trial)
                self._show_best(event.time)
            case ev.SweepEnded():
                self._close(RUN_STATUS[event.status], event.status, event.time)
                if event.reason:
                    self._update(SWEEP).tags["sweep.reason"] = event.reason

    def interrupt(self) -> None:
        """Close the open runs: the sweep process has gone without ending the sweep."""
        assert self.history.newest is not None, "the sweep has not begun"
        self._close("interrupted", "interrupted", self.history.newest)

    def _update(self, key: str) -> RunUpdate:
        if key not in self._updates:
            self._updates[key] = RunUpdate(key, self._new_run(key))
        return self._updates[key]

    def _new_run(self, key: str) -> NewRun:
        sweep = self._record.sweep
        started = self._started.get(key, self.history.started)
        assert started is not None, "a log begins with the start of the sweep"
        tags = {
            "sweep.key": quote(f"{sweep}/{key}".rstrip("/")),  # tools search for it in quotes
            "sweep.id": sweep,
            "sweep.space": self._record.space.name,
        }
        if key != SWEEP:
            trial = self.history.trials[key]
            tags |= {"sweep.trial": key, "sweep.origin": trial.origin}
            if trial.of is not None:
                tags["sweep.repeat_of"] = trial.of
        return NewRun(key or sweep, started, tags)

    def _begin(self, key: str, time: float) -> None:
        """Note a trial's first job; its run gets its params, shared arguments and data."""
        if key not in self._started:
            self._started[key] = time
            trial = self.history.trials[key]
            update = self._update(key)
            update.params |= {**self._common_params(), "seed": trial.seed, **trial.params}
            update.data = self._data()

    def _common_params(self) -> dict[str, Any]:
        """Return what all trials share: builder fields that are set, fixed arguments, workers."""
        space = self._record.space
        fields = {name: value for name, value in space.fields.items() if value not in (None, {})}
        workers = self._record.config.workers_per_trial
        return {**fields, **space.fixed, "workers_per_trial": workers}

    def _data(self) -> list[DataUse]:
        """Return the dataset that the builder names, once for each use."""
        fields = self._record.space.fields
        source = fields.get("dataset")
        if not isinstance(source, str) or any(name in self._record.space.tuned for name in CHOICE):
            return []
        commit = (fields.get("revisions") or {}).get(f"{DATASETS}{source}")
        config = fields.get("dataset_config")
        uses: tuple[tuple[Literal["training", "evaluation"], str], ...] = (
            ("training", "train_rows"),
            ("evaluation", "eval_rows"),
        )
        return [
            DataUse(
                name=source if is_hub_name(source) else Path(source).name,
                source=source,
                on_hub=is_hub_name(source),
                settings={"config": config, "revision": commit, "rows": fields.get(rows)},
                use=use,
            )
            for use, rows in uses
        ]

    def _show_status(self, key: str) -> None:
        trial, tags = self.history.trials[key], self._update(key).tags
        tags["sweep.status"] = trial.status
        if trial.status == "failed":
            tags["sweep.failure"] = trial.failure or "error"
            if cause := _cause(trial):
                tags["sweep.error"] = cause

    def _show_time(self, key: str, time: float) -> None:
        """Add how long a trial has trained so far; its run's own duration includes its pauses."""
        trial, (_, step) = self.history.trials[key], self._clock[key]
        spent = {"train_s": trial.train_s, "device_s": trial.device_s}
        self._update(key).points += [Point(name, s, time, step) for name, s in spent.items()]

    def _report(self, report: Report, time: float) -> None:
        update = self._update(report.trial)
        values = {**report.metrics, "progress": report.progress, "epoch": report.epoch}
        values |= _resources(report)
        points = [Point(name, value, time, report.step) for name, value in values.items()]
        points += self._log_points(report, time)
        finite = [point for point in points if math.isfinite(point.value)]
        if lost := len(points) - len(finite):
            finite.append(Point("nonfinite", lost, time, report.step))
            update.tags["nonfinite"] = "true"
        if self.history.best(self.history.trials[report.trial]) is report:
            best = report.metrics[self.history.metric]
            finite.append(Point(self._best_name, best, time, report.step))
            self._show_best(time)
        update.points += finite

    def _log_points(self, report: Report, time: float) -> list[Point]:
        """Return the points of HF's log, at times between the last report and this one."""
        last_time, last_step = self._clock.get(report.trial, (time, 0))
        self._clock[report.trial] = (time, report.step)
        points = []
        for entry in report.log_entries:
            share = (entry.step - last_step) / max(report.step - last_step, 1)
            at = last_time + (time - last_time) * min(max(share, 0.0), 1.0)
            for name in ("loss", "learning_rate"):
                value = getattr(entry, name)
                if value is not None:
                    points.append(Point(name, value, at, entry.step))
        return points

    @property
    def _best_name(self) -> str:
        return f"best_{self.history.metric}"

    def _show_best(self, time: float) -> None:
        """Update the sweep's best value: the mean of the params that lead, once it is complete.

        It gets worse if the trial that leads fails before its best model is saved.
        """
        winner = self.history.winner()
        own = self.history.set_of(winner) if winner is not None else None
        if own is not None and own.mean is not None and own.complete and own.mean != self._best:
            self._best = own.mean
            self._sweep_point(own.mean, time)
        self._mark_winner(winner)

    def _mark_winner(self, winner: Trial | None) -> None:
        """Mark the trial that leads, so that it can be found."""
        leads = winner.id if winner is not None else None
        if leads == self._winner:
            return
        if self._winner is not None:
            self._update(self._winner).tags["sweep.best"] = "false"
        if leads is not None:
            self._update(leads).tags["sweep.best"] = "true"
        self._winner = leads

    def _sweep_point(self, best: float, time: float) -> None:
        point = Point(self._best_name, best, time, len(self.history.reports))
        self._update(SWEEP).points.append(point)

    def _close(self, status: RunStatus, word: str, time: float) -> None:
        update = self._update(SWEEP)
        update.status, update.ended = status, time
        update.tags["sweep.status"] = word
        self._show_ranks()
        winner = self.history.winner()
        own = self.history.set_of(winner) if winner is not None else None
        if own is not None and own.mean is not None and not own.complete:
            # No params set is complete; a resume that completes one gives the final value.
            self._sweep_point(own.mean, time)
        for key in self._started:
            trial = self.history.trials[key]
            if trial.status not in RUN_STATUS:
                open_run = self._update(key)
                open_run.status, open_run.ended = "interrupted", time
                paused = trial.status == "paused"
                open_run.tags["sweep.status"] = "paused" if paused else "waiting"


def _resources(report: Report) -> dict[str, float]:
    """Return speed and memory by metric name; MLflow shows `system/` in a separate tab."""
    found = {
        "rows_per_s": report.rows_per_s,
        "system/worker_memory_megabytes": report.memory_bytes and report.memory_bytes / 1e6,
        "system/gpu_memory_megabytes": report.gpu_memory_bytes and report.gpu_memory_bytes / 1e6,
    }
    return {name: value for name, value in found.items() if value is not None}


def _cause(trial: Trial) -> str | None:
    """Return one line that says why a trial failed."""
    if trial.diverged:
        return trial.diverged
    if not trial.attempts:
        return None
    last = trial.attempts[-1]
    lines = (last.traceback or "").strip().splitlines()
    return last.message or (lines[-1] if lines else None)
