"""The exchange: where jobs, reports and decisions of a sweep meet.

One small asyncio Ray actor beside the sweep process. It must not know what is trained or how
decisions are made; it keeps nothing that the event log does not have.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sweeps.records.events import AttemptEnded, CheckpointSaved, Event, JobStarted
from sweeps.space.report import Report
from sweeps.workers.causes import Cause, guilty
from sweeps.workers.job import Answer, Definition, Job, JobError

T = TypeVar("T")


@dataclass
class _Lease:
    """A group that has a job."""

    job: Job
    started: float
    """Monotonic seconds."""
    left: set[int] = field(default_factory=set)
    errors: list[JobError] = field(default_factory=list)
    train_s: float = 0.0


@dataclass
class _Trial:
    reports: dict[int, Report] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    closed: bool = False


class Exchange:
    """Every method that waits returns as soon as there is an answer; none has a time limit.

    Args:
        definition: What is equal for all jobs.
        devices: Devices of a group, for its `device_s`.
    """

    def __init__(self, definition: Definition, devices: int) -> None:
        self._definition = definition
        self._devices = devices
        self._changed = asyncio.Condition()
        self._queue: deque[Job] = deque()
        self._trials: dict[str, _Trial] = {}
        self._jobs: dict[tuple[int, int], Job | None] = {}
        """What each group was given, by (group, turn)."""
        self._leases: dict[int, _Lease] = {}
        self._worked: set[int] = set()
        """Groups that have had a job."""
        self._outbox: list[Event] = []
        self._finishing = False
        self._aborted = False
        self._draining = False

    async def _wait_for(self, ready: Callable[[], T | None]) -> T:
        async with self._changed:
            while (value := ready()) is None:
                await self._changed.wait()
            return value

    async def _change(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _tell(self, event: Event) -> None:
        self._outbox.append(event)
        await self._change()

    # The sweep process.

    async def events(self) -> list[Event] | None:
        """Return what happened since the last call, waiting until something has.

        None once `drain` was called and all is told.
        """

        def ready() -> list[list[Event] | None] | None:
            taken, self._outbox = self._outbox, []
            if taken:
                return [taken]
            return [None] if self._draining else None

        return (await self._wait_for(ready))[0]

    async def drain(self) -> None:
        """Let the reader of events end once it has them all."""
        self._draining = True
        await self._change()

    async def decide(self, trial: str, number: int, answer: Answer) -> None:
        """Answer a report."""
        self._trials[trial].answers[number] = answer
        await self._change()

    async def close_trial(self, trial: str) -> None:
        """Let the trial actor go: there will be no more reports."""
        self._trials[trial].closed = True
        await self._change()

    async def group_lost(self, group: int, died: Mapping[int, str]) -> bool:
        """Take note that a group is gone; ends its attempt, and tells whether it had a job.

        Args:
            group: The group.
            died: What Train says of each rank that failed.
        """
        lease = self._leases.pop(group, None)
        if lease is None:
            return group in self._worked
        train_s = max([lease.train_s, *(error.train_s for error in lease.errors)])
        await self._end_attempt(lease, guilty(lease.errors, died), train_s)
        return True

    async def finish(self) -> None:
        """Let groups end once they have no job."""
        self._finishing = True
        await self._change()

    async def abort(self) -> None:
        """End everything now: trials get no more reports, workers end their processes."""
        self._aborted = self._finishing = True
        for lease in self._leases.values():
            reports = self._trials[lease.job.trial].reports.values()
            train_s = max([lease.train_s, *(report.train_s for report in reports)])
            await self._end_attempt(lease, Cause("interrupted"), train_s)
        self._leases.clear()
        await self._change()

    async def _end_attempt(self, lease: _Lease, cause: Cause, train_s: float) -> None:
        await self._tell(
            AttemptEnded(
                trial=lease.job.trial,
                attempt=lease.job.attempt,
                outcome=cause.outcome,
                message=cause.message,
                traceback=cause.traceback,
                fixable=cause.fixable,
                train_s=train_s,
                device_s=(time.monotonic() - lease.started) * self._devices,
            )
        )

    # The trial actors.

    async def submit(self, trial: str, params: Mapping[str, Any]) -> None:
        """Queue a trial's job; a trial that is known already is left as it is."""
        if trial in self._trials:
            return
        self._trials[trial] = _Trial()
        self._queue.append(Job(trial=trial, attempt=1, params=params, checkpoint=None))
        await self._change()

    async def next_report(self, trial: str) -> Report | None:
        """Return the trial's first undecided report, or None once it is closed."""
        state = self._trials[trial]

        def ready() -> list[Report | None] | None:
            if state.closed or self._aborted:
                return [None]
            undecided = [report for n, report in state.reports.items() if n not in state.answers]
            return [undecided[0]] if undecided else None

        return (await self._wait_for(ready))[0]

    # The workers.

    async def definition(self) -> Definition:
        """Return what is equal for all jobs."""
        return self._definition

    async def next_job(self, group: int, turn: int) -> Job | None:
        """Return the group's job number `turn`, the same for every rank; None ends the group."""

        def ready() -> list[Job | None] | None:
            if (group, turn) in self._jobs:
                return [self._jobs[group, turn]]
            if self._finishing or (self._definition.fresh_workers and turn > 0):
                self._jobs[group, turn] = None
                return [None]
            # The next job waits until every rank has left the last one: its lease counts them.
            if not self._queue or group in self._leases:
                return None
            job = self._queue.popleft()
            self._jobs.pop((group, turn - 1), None)
            self._jobs[group, turn] = job
            self._leases[group] = _Lease(job, time.monotonic())
            self._worked.add(group)
            self._outbox.append(
                JobStarted(trial=job.trial, attempt=job.attempt, group=group, devices=self._devices)
            )
            self._changed.notify_all()
            return [job]

        return (await self._wait_for(ready))[0]

    async def report(self, group: int, report: Report) -> None:
        """Take a report from rank 0; one that is known already is left as it is."""
        self._leases[group].train_s = report.train_s
        self._trials[report.trial].reports.setdefault(report.number, report)
        await self._change()

    async def answer(self, trial: str, number: int) -> Answer:
        """Return the decision on a report, once there is one."""
        answers = self._trials[trial].answers
        return await self._wait_for(lambda: answers.get(number))

    async def saved(self, event: CheckpointSaved) -> None:
        """Take note of a whole checkpoint."""
        await self._tell(event)

    async def left(self, group: int, rank: int, train_s: float) -> None:
        """Take note that a rank has left its job in good order."""
        lease = self._leases[group]
        lease.left.add(rank)
        lease.train_s = max(lease.train_s, train_s)
        if len(lease.left) == self._definition.workers:
            del self._leases[group]
            await self._end_attempt(lease, Cause("done"), lease.train_s)

    async def failed(self, group: int, error: JobError) -> None:
        """Take note of what a rank raised; its group is lost next."""
        if group in self._leases:
            self._leases[group].errors.append(error)

    async def until_aborted(self) -> None:
        """Return when the workers must end their processes."""
        await self._wait_for(lambda: self._aborted or None)
