"""What the events of a sweep add up to: its trials, their reports, checkpoints and status.

A fold over `events.py`, live in the sweep process and later in any reader. It must not know how
the next decision is made, nor who looks at it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sweeps.records import events as ev
from sweeps.space.report import Mode, Report, best_report, better

TrialStatus = Literal["waiting", "running", "finished", "stopped_early", "failed"]
SweepStatus = Literal["running", "interrupted", "finished", "failed"]


@dataclass(kw_only=True)
class Trial:
    """What is known of one trial."""

    id: str
    params: Mapping[str, Any]
    origin: str
    status: TrialStatus = "waiting"
    failure: ev.FailureKind | None = None
    reports: list[Report] = field(default_factory=list)
    decisions: dict[int, ev.Decided] = field(default_factory=dict)
    """By report number."""
    checkpoints: dict[ev.CheckpointKind, ev.CheckpointSaved] = field(default_factory=dict)
    """The newest whole one of each kind."""
    job: ev.JobStarted | None = None
    """The newest attempt."""
    attempts: list[ev.AttemptEnded] = field(default_factory=list)

    @property
    def train_s(self) -> float:
        """Seconds inside `Trainer.train()` over all ended attempts."""
        return sum(attempt.train_s for attempt in self.attempts)

    @property
    def device_s(self) -> float:
        """Device-seconds of all ended attempts."""
        return sum(attempt.device_s for attempt in self.attempts)

    @property
    def ended(self) -> bool:
        """Whether it will not run again."""
        return self.status in ("finished", "stopped_early", "failed")

    @property
    def next_attempt(self) -> int:
        """Number of the attempt to come, from 1."""
        started = self.job.attempt if self.job else 0
        return 1 + max([started, *(attempt.attempt for attempt in self.attempts)])

    @property
    def reduced(self) -> frozenset[ev.Phase]:
        """The phases that go on with fewer rows per device, since memory ran out in them."""
        return frozenset(a.phase for a in self.attempts if a.phase is not None)

    @property
    def diverged(self) -> str | None:
        """What was not a finite number, if that ended the trial."""
        return next((d.diverged for d in self.decisions.values() if d.diverged), None)


class History:
    """The state of one sweep, fed event by event.

    Args:
        metric: The judged metric.
        mode: Whether more or less of it is better.
    """

    def __init__(self, metric: str, mode: Mode) -> None:
        self.metric = metric
        self.mode: Mode = mode
        self.trials: dict[str, Trial] = {}
        """By trial id, in the order of their numbers."""
        self.reports: list[Report] = []
        """Of all trials, in the order in which they came."""
        self.measured: ev.SmokeMeasured | None = None
        """What the smoke run measured."""
        self.smoke: ev.SmokeEnded | None = None
        """How the newest smoke run ended."""
        self.started: float | None = None
        """Unix time of the first start."""
        self.resumed: float | None = None
        """Unix time of the latest start."""
        self.cut_off: float | None = None
        """Unix time of the newest event before the latest start."""
        self.spent_s = 0.0
        """Seconds that sweep processes ran before the latest start."""
        self.newest: float | None = None
        """Unix time of the newest event."""
        self.ended: ev.SweepEnded | None = None

    def apply(self, event: ev.Event) -> None:
        """Take in one event."""
        before, self.newest = self.newest, event.time
        match event:
            case ev.SweepStarted():
                if self.resumed is not None and before is not None:
                    self.spent_s += before - self.resumed
                self.cut_off = before
                self.started = self.started or event.time
                self.resumed = event.time
                self.ended = None
            case ev.SmokeMeasured():
                self.measured = event
            case ev.SmokeEnded():
                self.smoke = event
            case ev.TrialSuggested():
                self.trials[event.trial] = Trial(
                    id=event.trial, params=event.params, origin=event.origin
                )
            case ev.JobStarted():
                trial = self.trials[event.trial]
                trial.status, trial.job = "running", event
            case ev.Reported():
                self.trials[event.report.trial].reports.append(event.report)
                self.reports.append(event.report)
            case ev.Decided():
                self.trials[event.trial].decisions[event.number] = event
            case ev.CheckpointSaved():
                self.trials[event.trial].checkpoints[event.kind] = event
            case ev.CheckpointDropped():
                checkpoints = self.trials[event.trial].checkpoints
                if event.kind in checkpoints and checkpoints[event.kind].path == event.path:
                    del checkpoints[event.kind]
            case ev.AttemptEnded():
                trial = self.trials[event.trial]
                trial.attempts.append(event)
                trial.status = "waiting"
            case ev.TrialEnded():
                trial = self.trials[event.trial]
                trial.status, trial.failure = event.status, event.failure
            case ev.SweepEnded():
                self.ended = event

    @property
    def used_s(self) -> float:
        """Seconds that sweep processes ran, up to the newest event."""
        if self.resumed is None or self.newest is None:
            return 0.0
        return self.spent_s + self.newest - self.resumed

    def best(self, trial: Trial) -> Report | None:
        """Return the best report of a trial, or None."""
        return best_report(trial.reports, self.metric, self.mode)

    def value(self, trial: Trial) -> float | None:
        """Return the best value of a trial, or None."""
        best = self.best(trial)
        return best.metrics[self.metric] if best else None

    def ranked(self) -> list[Trial]:
        """Return the trials, best first: equals by their number, those without a value last."""

        def key(trial: Trial) -> float:
            value = self.value(trial)
            if value is None:
                return math.inf
            return -value if self.mode == "max" else value

        return sorted(self.trials.values(), key=key)

    def winner(self) -> Trial | None:
        """Return the trial with the best report of the sweep, or None.

        A failed trial counts only if the checkpoint of its best report is whole.
        """
        for trial in self.ranked():
            best, saved = self.best(trial), trial.checkpoints.get("best")
            if best is None:
                return None
            if trial.status != "failed" or (saved is not None and saved.number == best.number):
                return trial
        return None

    def baseline(self) -> Trial | None:
        """Return the trial of `first_params[0]` if it has a value."""
        first = next((t for t in self.trials.values() if t.origin == "first_params"), None)
        return first if first is not None and self.value(first) is not None else None

    def beats(self, report: Report) -> tuple[bool, int]:
        """Judge a report that was just taken in.

        Returns:
            Whether it is its trial's best so far, and how many other trials have a value that is
            equal or better.
        """
        trial = self.trials[report.trial]
        value = report.metrics[self.metric]
        if self.best(trial) is not report:
            return False, len(self.trials)
        others = [self.value(t) for t in self.trials.values() if t is not trial]
        return True, sum(v is not None and not better(value, v, self.mode) for v in others)


def read_history(path: Path, metric: str, mode: Mode) -> History:
    """Return the history of a log on disk."""
    history = History(metric, mode)
    for event, _ in ev.read_events(path):
        history.apply(event)
    return history


def sweep_status(history: History, held: bool) -> SweepStatus:
    """Return the sweep's status; `held`: a sweep process holds its log."""
    if history.ended is not None:
        return history.ended.status
    return "running" if held else "interrupted"


def trial_status(trial: Trial, sweep: SweepStatus) -> TrialStatus:
    """Return the trial's status; one that was cut off waits for a resume."""
    return "waiting" if trial.status == "running" and sweep != "running" else trial.status


def count(trials: Iterable[Trial], *statuses: TrialStatus) -> int:
    """Return how many trials have one of the statuses."""
    return sum(trial.status in statuses for trial in trials)
