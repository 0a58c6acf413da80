"""The state of one trial of a sweep.

Filled by `history.py` from the events, read by everyone. It must not know the other trials.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.records import events as ev
from sweeps.report import Report

TrialStatus = Literal["waiting", "running", "paused", "finished", "stopped_early", "failed"]


@dataclass(kw_only=True)
class Trial:
    """The state of one trial."""

    id: str
    params: Mapping[str, Any]
    origin: ev.Origin
    seed: int
    """HF `seed`."""
    of: str | None = None
    """The trial whose params it repeats with another seed; None if it is the first with its
    params."""
    status: TrialStatus = "waiting"
    failure: ev.FailureKind | None = None
    reports: list[Report] = field(default_factory=list)
    decisions: dict[int, ev.Decided] = field(default_factory=dict)
    """The decisions by report number."""
    resumed_at: int = 0
    """Number of the newest report when the trial was last resumed from a pause; 0: never."""
    checkpoints: dict[ev.CheckpointKind, ev.CheckpointSaved] = field(default_factory=dict)
    """The newest complete checkpoint of each kind."""
    job: ev.JobStarted | None = None
    """The newest attempt."""
    left_at: float | None = None
    """Unix time of the last event of the sweep process that ended while the trial was running;
    None if none did."""
    attempts: list[ev.AttemptEnded] = field(default_factory=list)
    group_s: float = 0.0
    """Seconds that worker groups spent on it, over all ended attempts."""

    @property
    def train_s(self) -> float:
        """Seconds inside `Trainer.train()` over all ended attempts."""
        return sum(attempt.train_s for attempt in self.attempts)

    @property
    def device_s(self) -> float:
        """Device-seconds of all ended attempts."""
        return sum(attempt.device_s for attempt in self.attempts)

    @property
    def running_train_s(self) -> float:
        """Seconds inside `Trainer.train()` of a running attempt, up to its newest report."""
        if self.status != "running" or self.job is None or not self.reports:
            return 0.0
        newest = self.reports[-1]
        return newest.train_s if newest.attempt == self.job.attempt else 0.0

    def device_s_by(self, now: float) -> float:
        """Return the device-seconds, for a running attempt up to `now` (Unix time)."""
        running = self.job if self.status == "running" else None
        if running is None:
            return self.device_s
        return self.device_s + ev.seconds_between(running.time, now) * running.devices

    @property
    def ended(self) -> bool:
        """Whether it will not run again."""
        return self.status in ("finished", "stopped_early", "failed")

    @property
    def untrainable(self) -> bool:
        """Whether it failed because of its params: it diverged or ran out of memory."""
        return self.failure in ("diverged", "out_of_memory")

    @property
    def on_hold(self) -> bool:
        """Whether it was told to pause, has saved its state, and has not been resumed since."""
        newest = max(self.decisions, default=0)
        state = self.checkpoints.get("state")
        return (
            newest > self.resumed_at
            and self.decisions[newest].decision == "pause"
            and state is not None
            and state.number >= newest
        )

    @property
    def next_attempt(self) -> int:
        """Number of the attempt to come, from 1."""
        started = self.job.attempt if self.job else 0
        return 1 + max([started, *(attempt.attempt for attempt in self.attempts)])

    @property
    def reduced(self) -> frozenset[ev.Phase]:
        """The phases that run with fewer rows per device from now on, because they ran out of
        memory."""
        return frozenset(a.phase for a in self.attempts if a.phase is not None)

    @property
    def reason(self) -> str | None:
        """Why it failed, in one line; None if it did not."""
        if self.status != "failed":
            return None
        last = self.attempts[-1].message if self.attempts else None
        return last or self.diverged or "the trial ended without an evaluation"

    @property
    def diverged(self) -> str | None:
        """What was not a finite number, if that ended the trial."""
        return next((d.diverged for d in self.decisions.values() if d.diverged), None)


def count(trials: Iterable[Trial], *statuses: TrialStatus) -> int:
    """Return how many trials have one of the statuses."""
    return sum(trial.status in statuses for trial in trials)
