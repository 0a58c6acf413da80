"""What each worker group did when: starting, training, waiting; and where its time went.

A fold over the events of a search. It must not know how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sweeps.records import events as ev
from sweeps.records.history import History, SweepStatus
from sweeps.records.trial import Trial

What = Literal[
    "start",
    "gap",
    "idle",
    "finished",
    "stopped_early",
    "failed",
    "paused",
    "interrupted",
    "running",
]
"""What a group does: it starts (smoke run included), is between two trials, has none any more; or
trains a trial, by what came of that attempt."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time in which a group did one thing."""

    start: float
    """Seconds since the sweep's first start."""
    end: float
    what: What
    trial: str | None = None
    """The trial that it trained."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One worker group."""

    group: int
    devices: float
    """Its GPUs, one that it shares counted as its part when its newest job began; its workers if it
    has no GPU."""
    spans: tuple[Span, ...]
    """In order of time; nothing where no sweep process ran."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All groups, and the sum over them."""

    lanes: tuple[Lane, ...]
    device_s: Mapping[str, float]
    """Device-seconds by what groups did."""


def find_timeline(
    events: Iterable[ev.Event], final: History, status: SweepStatus, until: float
) -> Timeline:
    """Return what each group did.

    Args:
        events: Of the log, in order.
        final: What they add up to.
        status: Whether the sweep runs.
        until: Unix time of the newest event, or at which a running sweep is looked at.
    """
    spans: dict[int, list[Span]] = {}
    devices: dict[int, float] = {}
    jobs: dict[str, ev.JobStarted] = {}
    free: dict[int, float] = {}
    device_s: dict[str, float] = {}
    begin = newest = 0.0

    def add(group: int, start: float, end: float, what: What, trial: str | None = None) -> None:
        if end > start:
            spent = (end - start) * devices.get(group, 1.0)
            device_s[what] = device_s.get(what, 0.0) + spent
            spans.setdefault(group, []).append(Span(start=start, end=end, what=what, trial=trial))

    def leave(at: float, running: bool) -> None:
        """End what every group does when its process ends, or is looked at."""
        for trial, job in jobs.items():
            add(job.group, job.time, at, "running" if running else "interrupted", trial)
        busy = {job.group for job in jobs.values()}
        for group, since in free.items():
            if group not in busy:
                add(group, since, at, "idle")
        jobs.clear()
        free.clear()

    for event in events:
        match event:
            case ev.ConfirmationStarted() | ev.OfConfirmation():
                continue
            case ev.SweepStarted():
                leave(newest, running=False)
                begin = event.time
            case ev.GpuMeasured():
                begin = event.time  # of the groups that come to share the GPUs
            case ev.JobStarted():
                devices[event.group] = event.devices
                since = free.pop(event.group, None)
                what: What = "start" if since is None else "gap"
                add(event.group, begin if since is None else since, event.time, what)
                jobs[event.trial] = event
            case ev.AttemptEnded():
                job = jobs.pop(event.trial, None)
                if job is not None:
                    came = _what_came(event, final.trials[event.trial])
                    add(job.group, job.time, event.time, came, event.trial)
                    free[job.group] = event.time
        newest = max(newest, event.time)
    leave(until, running=status == "running")
    zero = final.started or 0.0
    lanes = tuple(
        Lane(
            group=group,
            devices=devices[group],
            spans=tuple(
                replace(span, start=span.start - zero, end=span.end - zero) for span in spans[group]
            ),
        )
        for group in sorted(spans)
    )
    return Timeline(lanes=lanes, device_s=device_s)


def _what_came(ended: ev.AttemptEnded, trial: Trial) -> What:
    """Return what came of an attempt: the trial's end if it was the last one."""
    if ended.outcome == "paused":
        return "paused"
    if ended.outcome in ("interrupted", "preempted", "crowded"):
        return "interrupted"
    if ended.outcome != "done":
        return "failed"
    last = trial.attempts[-1].attempt == ended.attempt
    if last and trial.status in ("stopped_early", "failed"):
        return "stopped_early" if trial.status == "stopped_early" else "failed"
    return "finished"
