"""The exchange: passes jobs, reports, decisions and orders between a sweep's processes.

One small asyncio Ray actor next to the sweep process. It must not know what is trained or how
decisions are made. It keeps nothing that is not in the event log, except what trials have patched
and which trials need new processes: a new exchange has new groups, and learns this again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TypeVar

from sweeps.records.events import AttemptOutcome, Event, Reported
from sweeps.report import Report, Steps
from sweeps.workers.failures.causes import LEFT, Cause, LostGroup
from sweeps.workers.group_job import Group, GroupJob
from sweeps.workers.job import Definition, Job, Order, Reply
from sweeps.workers.job_queue import JobQueue
from sweeps.workers.messages import Departure, JobError, Member, Message, TrialWanted
from sweeps.workers.outbox import Outbox
from sweeps.workers.replies import Replies
from sweeps.workers.traces import Traces
from sweeps.workers.tune_side import TuneSide

T = TypeVar("T")
FAILURES: frozenset[AttemptOutcome] = frozenset({"error", "stalled", "out_of_memory"})
"""The outcomes that an earlier trial in the same processes may have caused."""


class Exchange:
    """Passes messages between the sweep process and the worker groups.

    Methods that wait return as soon as they have an answer, without a time limit.

    Ray may run the calls of one process in a different order than they were made (2.60, asyncio
    actors), so a call that must come first is awaited, or merged with the next one.

    Args:
        definition: What is the same for all jobs.
        devices: Number of devices of a group, for its `device_s`.
    """

    def __init__(self, definition: Definition, devices: int) -> None:
        self._definition = definition
        self._devices = devices
        self._changed = asyncio.Condition()
        """Wakes every waiting call, at 10 us each, so it is only used for what happens a few times
        per trial, not for reports and steps."""
        self._queue = JobQueue()
        self._replies = Replies()
        self._jobs: dict[tuple[int, int], Job | None] = {}
        """The job that each group was assigned, by (group, turn)."""
        self._groups: dict[int, Group] = {}
        self._running: dict[int, GroupJob] = {}
        """The job of each group that has one."""
        self._draining_nodes: set[str] = set()
        """Ids of draining nodes."""
        self._outbox = Outbox()
        self._tune = TuneSide()
        self._traces = Traces(definition.fresh_workers)
        self._retired: set[int] = set()
        """Groups that are not replaced, because memory ran out on a GPU that they shared."""
        self._finishing = False
        self._aborted = False

    async def _wait_for(self, ready: Callable[[], T]) -> T:
        """Wait until the result of a function is true or not empty; return it."""
        async with self._changed:
            return await self._changed.wait_for(ready)

    async def _change(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # Called by the sweep process.

    async def submit(self, job: Job, answers: Mapping[int, Reply]) -> None:
        """Queue a job, ahead of the others if its trial has run before.

        After the smoke run's job, no trial is handed out until `smoke_over`.

        Args:
            job: The job.
            answers: Decisions on reports that the trial has made before and may repeat.
        """
        self._enqueue(job, answers)
        await self._change()

    def _enqueue(self, job: Job, answers: Mapping[int, Reply]) -> None:
        again = self._replies.enter(job.trial, answers)
        self._tune.enter(job.trial)
        self._queue.enter(job, ahead=again)

    async def smoke_over(self) -> None:
        """Start handing out trials."""
        self._queue.smoke_over()
        await self._change()

    async def events(self) -> list[Message] | None:
        """Return what has happened since the last call, in order; wait until there is something.

        Returns None once `end_events` has been called and nothing is left.
        """
        return await self._outbox.take()

    async def end_events(self) -> None:
        """End the stream of events once all of them have been read."""
        self._outbox.end()

    async def decide(self, trial: str, number: int, answer: Reply) -> None:
        """Answer a report."""
        self._replies.decide(trial, number, answer)

    async def hand_out(self, job: Job, answers: Mapping[int, Reply]) -> None:
        """Queue a job and answer Tune's request with its trial; see `submit`."""
        self._enqueue(job, answers)
        self._tune.hand_out(job.trial, job.attempt)
        await self._change()

    async def no_more_trials(self) -> None:
        """Answer Tune's request: there are no more trials."""
        self._tune.no_more()
        await self._change()

    async def close_trial(self, trial: str, attempt: int) -> None:
        """Let the trial actor end: this was the last attempt that it represents."""
        self._tune.close(trial, attempt)
        await self._change()

    async def present(self) -> frozenset[int]:
        """Return the groups whose ranks have all started."""
        workers = self._definition.workers
        return frozenset(n for n, group in self._groups.items() if len(group.members) == workers)

    async def members(self, group: int) -> dict[int, Member]:
        """Return the ranks of a group that have started, in their state before the job."""
        return dict(self._groups.get(group, Group()).members)

    async def drain_nodes(self, nodes: Collection[str]) -> int:
        """Make the groups on these nodes save, leave their jobs and take no more jobs.

        Returns:
            The number of these groups.
        """
        self._draining_nodes |= set(nodes)
        leaving = [
            group
            for group in self._groups.values()
            if any(member.node in self._draining_nodes for member in group.members.values())
        ]
        for group in leaving:
            group.draining = group.worn = True
        await self._change()
        return len(leaving)

    async def wants_group(self, lost: int) -> bool:
        """Wait until there is a job for the replacement of a lost group; False if none is wanted.

        None is wanted when the sweep finishes, or if the group ran out of memory on a shared GPU.
        """

        def wanted() -> list[bool]:
            if self._finishing or lost in self._retired:
                return [False]
            return [True] if self._queue else []

        (is_wanted,) = await self._wait_for(wanted)
        if is_wanted:
            self._outbox.put(*self._traces.fresh_groups())
        return is_wanted

    async def group_lost(self, group: int, loss: LostGroup) -> bool:
        """End the attempt of a lost group; return whether the group has had any job."""
        if group not in self._groups:
            self._queue.has_no_room()
        known = self._groups.pop(group, Group())
        had = self._running.pop(group, None)
        await self._change()
        if had is None:
            return known.worked
        cause = had.cause_of_end(known, loss)
        if cause.memory == "device" and had.shared:
            cause = replace(cause, outcome="crowded", phase=None)
            if self._beside(known):  # otherwise the GPU is no longer shared
                self._retired.add(group)
        if cause.outcome in FAILURES:
            self._queue.keep_for_fresh(had.job.trial)
        self._outbox.put(had.attempt_end(cause))
        await self._change()
        return True

    def _beside(self, group: Group) -> list[int]:
        """Return the other groups that share a GPU with this one."""
        return [
            number
            for number, other in self._groups.items()
            if other is not group and other.gpus & group.gpus
        ]

    async def finish(self) -> None:
        """Let groups end when they have no job."""
        self._finishing = True
        await self._change()

    async def abort(self) -> None:
        """End everything now: Tune gets no more trials, and workers end their processes."""
        self._aborted = self._finishing = True
        self._tune.end()
        for running in self._running.values():
            self._outbox.put(running.attempt_end(Cause("interrupted")))
        self._running.clear()
        await self._change()

    # Called by Tune and its trial actors.

    async def returned(self, value: T) -> T:
        """Return the argument: the caller keeps a small result in its own memory.

        Objects that the process puts into the object store itself are kept on its node. Once the
        node is gone, Ray's client tries to store an error there in their place, and ends the
        process (2.60, `ObjectRecoveryManager`).
        """
        return value

    async def ask_for_trial(self) -> tuple[str, int] | None:
        """Return the next trial and its attempt, once the sweep process has one.

        None: no more trials.

        Tune asks for one trial at a time.
        """
        self._outbox.put(TrialWanted())
        return (await self._wait_for(self._tune.answer))[0]

    async def trial_closed(self, trial: str, attempt: int) -> None:
        """Return once the trial has left its groups after this attempt or a later one."""
        await self._wait_for(lambda: self._tune.may_go(trial, attempt))

    # Called by the workers.

    async def hello(self, group: int, rank: int, member: Member) -> Definition:
        """Register a worker; return what is the same for all jobs."""
        known = self._groups.setdefault(group, Group())
        known.members[rank] = member
        if member.node in self._draining_nodes:
            known.draining = known.worn = True
        return self._definition

    async def next_job(self, group: int, turn: int) -> Job | None:
        """Return the group's job number `turn`, the same for every rank; None ends the group."""
        async with self._changed:
            (job,) = await self._changed.wait_for(lambda: self._choose(group, turn))
            if (group, turn) not in self._jobs:
                self._assign(group, turn, job)
            return job

    def _choose(self, group: int, turn: int) -> list[Job | None]:
        """Return what a group gets at this turn, in a list, which is empty if it must wait."""
        if (group, turn) in self._jobs:
            return [self._jobs[group, turn]]
        known = self._groups.get(group)
        idle = group not in self._running
        if (
            known is None  # lost while it waited
            or self._finishing
            or known.worn
            or (self._definition.fresh_workers and turn > 0)
            or (idle and self._queue.needs_room(turn))
        ):
            return [None]
        # The next job waits until every rank has left the last one.
        job = self._queue.next_for(turn) if idle else None
        return [] if job is None else [job]

    def _assign(self, group: int, turn: int, job: Job | None) -> None:
        """Let a group begin a job or, without one, end."""
        self._jobs[group, turn] = job
        if job is None:
            if group in self._groups and group not in self._running:
                self._queue.make_way(turn)
            return
        self._queue.take(job)
        self._jobs.pop((group, turn - 1), None)
        known = self._groups[group]
        known.worked = True
        beside = self._beside(known)
        self._running[group] = running = GroupJob(job, self._devices / (1 + len(beside)))
        for number in beside:
            if number in self._running:
                self._running[number].shared = running.shared = True
        self._outbox.put(running.attempt_start(group))
        self._changed.notify_all()

    async def steps(self, group: int, steps: Steps) -> None:
        """Pass on how far a trial is."""
        running = self._running.get(group)
        if running is not None and running.job.trial == steps.trial:
            self._outbox.put(steps)

    async def report(self, group: int, report: Report) -> None:
        """Pass on a report of rank 0, unless the trial has made it before."""
        if group not in self._running:
            return  # aborted in the meantime: the attempt has ended
        self._running[group].train_s = report.train_s
        if self._replies.is_first(report.trial, report.number):
            self._outbox.put(Reported(report=report))

    async def answer(self, trial: str, number: int) -> Reply:
        """Return the decision on a report, once there is one."""
        return await self._replies.answer(trial, number)

    async def tell(self, group: int, event: Event) -> None:
        """Pass on a complete checkpoint or a measurement of a job that has not ended."""
        if group in self._running:  # otherwise the checkpoint will be deleted, or already has been
            self._outbox.put(event)

    async def left(self, group: int, departure: Departure) -> None:
        """Record that a rank has left its job cleanly; the last rank to do so ends the attempt."""
        if group not in self._running:
            return  # aborted in the meantime
        running = self._running[group]
        self._groups[group].take_back(departure, running.job)
        self._outbox.put(*self._traces.compare_files(running.job, departure.own_files))
        running.left.add(departure.rank)
        running.train_s = max(running.train_s, departure.train_s)
        if len(running.left) == self._definition.workers:
            del self._running[group]
            self._traces.judge_patches(group, self._groups[group], running.job, departure.reason)
            if departure.reason == "misplaced":
                self._queue.keep_for_fresh(running.job.trial)
            self._outbox.put(running.attempt_end(LEFT[departure.reason]))
            await self._change()

    async def failed(self, group: int, error: JobError) -> None:
        """Record the error that a rank raised; its group will be lost next."""
        if group in self._running:
            self._running[group].errors.append(error)

    async def stalled(self, group: int, rank: int, message: str, in_library: bool) -> None:
        """Record that a rank has seen no step for too long; end its group once the cause is clear.

        Args:
            group: The group.
            rank: The rank, which calls this again and again until its group ends.
            message: Says how long there was no step.
            in_library: Whether the rank may only be waiting for others; see `stands_in_library`.
        """
        running = self._running.get(group)
        if running is None or running.stalled is not None:
            return
        running.judge_stall(rank, message, in_library, self._definition.workers)
        if running.stalled is not None:
            self._groups[group].worn = True  # the group ends, even if its job now ends cleanly
            await self._change()

    async def save_at(self, group: int, step: int) -> None:
        """Make every rank save and leave at the end of a step; return once all ranks know."""
        if group in self._running:
            running = self._running[group]
            running.save_at = step
            await self._change()
            await self._by_all(running, Order("save", running.job.trial, step))

    async def next_order(self, group: int, rank: int, done: frozenset[Order]) -> Order:
        """Wait for the next order to a worker, and return it.

        Args:
            group: The group.
            rank: The rank.
            done: The orders that this rank has carried out.
        """

        def ready() -> list[Order]:
            known = self._groups.get(group)
            if self._aborted or known is None:
                orders = [Order("end")]
            else:
                running = self._running.get(group)
                orders = running.orders(known, rank) if running is not None else []
            return [order for order in orders if order not in done]

        return (await self._wait_for(ready))[0]

    async def carried_out(self, group: int, rank: int, order: Order) -> None:
        """Record that a rank has carried out an order; return once all ranks have."""
        if group in self._running:
            running = self._running[group]
            running.carried_out.setdefault(order, set()).add(rank)
            await self._change()
            await self._by_all(running, order)

    async def _by_all(self, running: GroupJob, order: Order) -> None:
        ranks = running.carried_out.setdefault(order, set())
        await self._wait_for(lambda: len(ranks) == self._definition.workers)
