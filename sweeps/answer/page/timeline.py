"""What each worker group did at each time (starting, training, waiting), and where its time went.

A fold over the events of a search. It must not know how it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
"""What a group does: it starts (including the smoke run), is between two trials, is idle, or trains
a trial; then this is the outcome of that attempt."""


LOST: tuple[What, ...] = ("failed", "interrupted")
"""The possible outcomes of a group's last job if the group was lost and replaced."""


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
    """A place for one worker group at a time: a lost group is replaced by another one."""

    devices: float
    """GPUs of its newest group, a shared one counted as a fraction; its workers if it has no
    GPU."""
    spans: tuple[Span, ...]
    """The spans in order of time; there are none while no sweep process ran."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All lanes, and how many device-seconds they spent on what."""

    lanes: tuple[Lane, ...]
    device_s: Mapping[str, float]
    """Device-seconds by what groups did."""


@dataclass
class _Job:
    """An attempt of a trial on a group."""

    trial: str
    group: int
    devices: float
    ready: float
    """When its group could have started, if this is the group's first job."""
    start: float
    end: float
    what: What


@dataclass
class _Process:
    """What a sweep process did until its newest event."""

    end: float
    jobs: list[_Job] = field(default_factory=list)
    """The jobs in the order in which they started."""


def find_timeline(
    events: Iterable[ev.Event], final: History, status: SweepStatus, until: float
) -> Timeline:
    """Return what each group did.

    Args:
        events: The events of the log, in order.
        final: The history that these events add up to.
        status: Whether the sweep is running.
        until: Unix time of the newest event or, for a running sweep, of now.
    """
    processes = _processes(events, final)
    if processes and status == "running":
        newest = processes[-1]
        for job in newest.jobs:
            if job.end == math.inf:
                job.what = "running"
        newest.end = until
    zero = final.started or 0.0
    lanes: list[list[Span]] = []
    devices: list[float] = []
    spent: dict[str, float] = {}
    for process in processes:
        for place, jobs in enumerate(_places(process.jobs)):
            if place == len(lanes):
                lanes.append([])
                devices.append(0.0)
            for span, devices[place] in _spans(process, jobs):
                seconds = span.end - span.start
                if seconds > 0:
                    spent[span.what] = spent.get(span.what, 0.0) + seconds * devices[place]
                    lanes[place].append(replace(span, start=span.start - zero, end=span.end - zero))
    return Timeline(
        lanes=tuple(
            Lane(devices=each, spans=tuple(spans))
            for each, spans in zip(devices, lanes, strict=True)
        ),
        device_s=spent,
    )


def _processes(events: Iterable[ev.Event], final: History) -> list[_Process]:
    """Return the processes of the search; a job that did not end has no end."""
    found: list[_Process] = []
    open_jobs: dict[str, _Job] = {}
    ready = 0.0
    for event in events:
        match event:
            case ev.ConfirmationStarted() | ev.OfConfirmation():
                continue
            case ev.SweepStarted():
                open_jobs, ready = {}, event.time
                found.append(_Process(event.time))
            case ev.GpuMeasured():
                ready = event.time  # for the groups that will share the GPUs
            case ev.JobStarted():
                job = _Job(
                    trial=event.trial,
                    group=event.group,
                    devices=event.devices,
                    ready=ready,
                    start=event.time,
                    end=math.inf,
                    what="interrupted",
                )
                open_jobs[event.trial] = job
                found[-1].jobs.append(job)
            case ev.AttemptEnded() if event.trial in open_jobs:
                job = open_jobs.pop(event.trial)
                job.end, job.what = event.time, _what_came(event, final.trials[event.trial])
        found[-1].end = max(found[-1].end, event.time)
    return found


def _places(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Return the jobs of a process by place: a new group takes the place of the first lost one."""
    last = {job.group: job for job in jobs}
    places: list[list[_Job]] = []
    taken: dict[int, list[_Job]] = {}
    for job in jobs:
        if job.group not in taken:
            lost = [
                place
                for place in places
                if place[-1] is last[place[-1].group]
                and place[-1].what in LOST
                and place[-1].end <= job.start
            ]
            if not lost:
                places.append([])
            taken[job.group] = min(lost, key=lambda place: place[-1].end) if lost else places[-1]
        taken[job.group].append(job)
    return places


def _spans(process: _Process, jobs: Sequence[_Job]) -> Iterator[tuple[Span, float]]:
    """Yield what one place did in a process, and on how many devices."""
    free, group = jobs[0].ready, None
    for job in jobs:
        before: What = "gap" if job.group == group else "start"
        yield Span(start=free, end=job.start, what=before), job.devices
        free, group = min(job.end, process.end), job.group
        yield Span(start=job.start, end=free, what=job.what, trial=job.trial), job.devices
    yield Span(start=free, end=process.end, what="idle"), jobs[-1].devices


def _what_came(ended: ev.AttemptEnded, trial: Trial) -> What:
    """Return the outcome of an attempt: the trial's end if it was the last one."""
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
