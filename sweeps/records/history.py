"""The state of a sweep: its trials, their reports, checkpoints and status.

It is a fold over the events: in the sweep process as they happen, and in any reader of the log. It
must not know how the next decision is made, nor who reads the state.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from sweeps.naming import pick
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.records.params_set import ParamsSet
from sweeps.records.standings import Standings
from sweeps.records.trial import Trial, TrialStatus
from sweeps.report import Mode, Report

SweepStatus = Literal["running", "interrupted", "finished", "failed"]


@dataclass(frozen=True)
class Confirmation:
    """Params that the search has found, run again with fresh seeds."""

    asked: ev.ConfirmationStarted
    """What is compared."""
    runs: History
    """Its runs as trials: a params set for each arm, in the order of `asked`. They do not affect
    the search, its budget or its best checkpoints."""


class History:
    """The state of one sweep, fed event by event.

    It is the state of the search; `confirmation` has its own.

    Args:
        metric: The judged metric.
        mode: Whether to maximise or minimise it.
        repeats: Trials per params set.
    """

    def __init__(self, metric: str, mode: Mode, repeats: int = 1) -> None:
        self.metric = metric
        self.mode: Mode = mode
        self.repeats = repeats
        self._standings = Standings(metric, mode, repeats)
        self.trials: dict[str, Trial] = {}
        """The trials by id, in the order of their numbers."""
        self.reports: list[Report] = []
        """The reports of all trials, in the order in which they arrived."""
        self.course: list[ev.TrialSuggested | ev.Reported | ev.TrialEnded] = []
        """What a searcher may observe, in the order of the log."""
        self.decided: list[ev.Decided | ev.TrialResumed] = []
        """What the scheduler decided, in the order of the log."""
        self.measured: ev.SmokeMeasured | None = None
        """What the smoke run measured."""
        self.gpu_use: ev.GpuMeasured | None = None
        """How much of a GPU of the current kind a trial uses; None: not measured."""
        self.crowded = 0
        """Attempts that ended because memory ran out on a shared GPU of that kind."""
        self.smoke: ev.SmokeEnded | None = None
        """How the newest smoke run ended."""
        self.smoke_s = 0.0
        """Device-seconds of all smoke runs."""
        self.started: float | None = None
        """Unix time of the first start."""
        self.resumed: float | None = None
        """Unix time of the latest start."""
        self.working: float | None = None
        """Unix time of the first trial's job since the latest start; None: none has started."""
        self.spent_s = 0.0
        """Seconds that sweep processes ran before the latest start, each from its first job on."""
        self.newest: float | None = None
        """Unix time of the newest event."""
        self.devices: str | None = None
        """The devices in use since the latest start; None: not recorded."""
        self.ended: ev.SweepEnded | None = None
        self.confirmation: Confirmation | None = None
        """None if it has not begun."""

    def apply(self, event: ev.Event) -> None:
        """Take in one event."""
        if isinstance(event, ev.ConfirmationStarted):
            runs = History(self.metric, self.mode, len(event.seeds))
            self.confirmation = Confirmation(event, runs)
            return
        if isinstance(event, ev.OfConfirmation):
            assert self.confirmation is not None, "a confirmation starts before its other events"
            self.confirmation.runs.apply(event.inner)
            return
        before, self.newest = self.newest, event.time
        match event:  # the most frequent kinds come first
            case ev.Reported():
                trial = self.trials[event.report.trial]
                trial.reports.append(event.report)
                self.reports.append(event.report)
                self.course.append(event)
                self._standings.take(trial, event.report)
            case ev.Decided():
                self.trials[event.trial].decisions[event.number] = event
                self.decided.append(event)
            case ev.SweepStarted():
                if self.working is not None and before is not None:
                    self.spent_s += ev.seconds_between(self.working, before)
                self.working = None
                for trial in self.trials.values():
                    # A process may die before it logs anything; the attempt ended before that one.
                    trial.left_at = (trial.left_at or before) if trial.status == "running" else None
                self.started = self.started or event.time
                self.resumed = event.time
                if event.devices != self.devices:
                    self.gpu_use, self.crowded = None, 0
                self.devices = event.devices
                self.ended = None
            case ev.SmokeMeasured():
                self.measured = event
            case ev.GpuMeasured():
                self.gpu_use = event
            case ev.SmokeEnded():
                self.smoke = event
                self.smoke_s += event.device_s
            case ev.TrialSuggested():
                trial = self.trials[event.trial] = Trial(
                    id=event.trial,
                    params=event.params,
                    origin=event.origin,
                    seed=event.seed,
                    of=event.of,
                )
                self.course.append(event)
                self._standings.add(trial)
            case ev.JobStarted():
                trial = self.trials[event.trial]
                trial.status, trial.job, trial.left_at = "running", event, None
                self.working = self.working or event.time
            case ev.TrialResumed():
                trial = self.trials[event.trial]
                trial.resumed_at = max(trial.decisions, default=0)
                trial.status = "waiting" if trial.status == "paused" else trial.status
                self.decided.append(event)
            case ev.CheckpointSaved():
                self.trials[event.trial].checkpoints[event.kind] = event
            case ev.CheckpointDropped():
                checkpoints = self.trials[event.trial].checkpoints
                if event.kind in checkpoints and checkpoints[event.kind].path == event.path:
                    del checkpoints[event.kind]
            case ev.AttemptEnded():
                trial = self.trials[event.trial]
                trial.attempts.append(event)
                if trial.job is not None:
                    trial.group_s += event.device_s / trial.job.devices
                self.crowded += event.outcome == "crowded"
                trial.status = "paused" if trial.on_hold else "waiting"
            case ev.TrialEnded():
                trial = self.trials[event.trial]
                trial.status, trial.failure = event.status, event.failure
                self.course.append(event)
                self._standings.end(trial)
            case ev.SweepEnded():
                self.ended = event

    @property
    def confirming(self) -> Mapping[str, Trial]:
        """The runs of the confirmation by their ids; empty without one."""
        return self.confirmation.runs.trials if self.confirmation is not None else {}

    @property
    def used_s(self) -> float:
        """Seconds of the time budget that are used, up to the newest event."""
        return self.used_s_by(self.newest) if self.newest is not None else 0.0

    def used_s_by(self, now: float) -> float:
        """Return the seconds of the time budget that are used up to `now` (Unix time)."""
        running = ev.seconds_between(self.working, now) if self.working is not None else 0.0
        return self.spent_s + running

    def device_s_by(self, now: float) -> float:
        """Return the device-seconds of trials and smoke runs, for running trials up to `now`."""
        return self.smoke_s + sum(trial.device_s_by(now) for trial in self.trials.values())

    def best(self, trial: Trial) -> Report | None:
        """Return the best report of a trial, or None."""
        return self._standings.best(trial)

    def value(self, trial: Trial) -> float | None:
        """Return the best value of a trial, or None."""
        return self._standings.value(trial)

    def find_trial(self, name: str, sweep: str) -> Trial:
        """Return the trial with this id, or the only one whose id begins with it.

        Args:
            name: The name as the user typed it.
            sweep: The sweep's id, for messages.

        Raises:
            UserError: There is no such trial, or there are several.
        """
        known = self.trials_in_words()
        return self.trials[pick("trial", name, list(self.trials), place=sweep, known=known)]

    def find_run(self, name: str, sweep: str) -> tuple[History, Trial]:
        """Return a trial or a run of the confirmation, and the history that it belongs to.

        Args:
            name: See `find_trial`.
            sweep: The sweep's id, for messages.
        """
        if self.confirmation is not None and name.startswith("c"):
            return self.confirmation.runs, self.confirmation.runs.find_trial(name, sweep)
        return self, self.find_trial(name, sweep)

    def trials_in_words(self) -> str:
        """Return, for messages, which trials there are, without listing hundreds."""
        ids = list(self.trials)
        return f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else "".join(ids)

    def sets(self) -> list[ParamsSet]:
        """Return the params sets, in the order in which they were suggested."""
        return self._standings.sets()

    def set_of(self, trial: Trial) -> ParamsSet:
        """Return the params set that a trial belongs to."""
        return self._standings.set_of(trial)

    def ranked(self) -> list[Trial]:
        """Return the trials by their params sets, best first (`Standings.in_order`).

        Within a set, the best trial comes first.
        """
        return list(self._best_first())

    def winner(self) -> Trial | None:
        """Return the best trial of the best params set of the sweep, or None.

        A failed trial counts only if the checkpoint of its best report is complete.
        """
        return next(filter(self._standings.may_win, self._best_first()), None)

    def _best_first(self) -> Iterator[Trial]:
        return (trial for one in self._standings.in_order() for trial in one.trials)

    def may_win(self, own: ParamsSet) -> bool:
        """Tell whether a trial of a params set may be the winner."""
        return self._standings.any_may_win(own)

    def baseline(self) -> Trial | None:
        """Return the first trial of `first_params[0]` if its params set has a value."""
        first = next((t for t in self.trials.values() if t.origin == "first_params"), None)
        return first if first is not None and self.set_of(first).mean is not None else None

    def beats(self, report: Report) -> tuple[bool, int]:
        """Judge a report that was just taken in.

        Returns:
            Whether it is the best of its params set so far, and how many other sets stay ahead of
            that set if it does not improve further.
        """
        trial = self.trials[report.trial]
        own = self.set_of(trial)
        if not self._leads(own, trial) or self.best(trial) is not report:
            return False, len(self.trials)
        return True, self._standings.ahead(own, trial)

    def wants(self, trial: Trial, keep: int) -> bool:
        """Tell whether a trial's best report may be exported.

        It may if the trial is the best of its params set, with fewer than `keep` sets ahead of that
        set.
        """
        own = self.set_of(trial)
        return self._leads(own, trial) and self._standings.ahead(own, trial) < keep

    def _leads(self, own: ParamsSet, trial: Trial) -> bool:
        return next(filter(self._standings.may_win, own.trials), None) is trial

    def left_behind(self, trial: Trial, keep: int) -> bool:
        """Tell whether a trial's best checkpoint can go: enough better ones are complete."""
        own = self.set_of(trial)
        siblings = own.trials[: own.trials.index(trial)]
        if any(map(self._standings.best_is_saved, siblings)):
            return True
        ahead = self._standings.first(self._standings.ahead(own, trial), own)
        saved = (one for one in ahead if any(map(self._standings.best_is_saved, one.trials)))
        return sum(1 for _ in islice(saved, keep)) == keep


def read_history(path: Path, metric: str, mode: Mode, repeats: int = 1) -> History:
    """Return the history of a log on disk."""
    history = History(metric, mode, repeats)
    fold(path, history)
    return history


def fold(path: Path, history: History) -> list[ev.Event]:
    """Apply all complete events of a log on disk to a history, and return them."""
    collects = gc.isenabled()
    gc.disable()  # they all stay alive, and scanning them for garbage takes longer than reading
    try:
        events = [event for event, _ in read_events(path)]
        for event in events:
            history.apply(event)
        return events
    finally:
        if collects:
            gc.enable()


def sweep_status(history: History, held: bool) -> SweepStatus:
    """Return the sweep's status; `held` says whether a sweep process holds its log."""
    if history.ended is not None:
        return history.ended.status
    return "running" if held else "interrupted"


def trial_status(trial: Trial, sweep: SweepStatus) -> TrialStatus:
    """Return the trial's status; an interrupted one waits for a resume."""
    return "waiting" if trial.status == "running" and sweep != "running" else trial.status
