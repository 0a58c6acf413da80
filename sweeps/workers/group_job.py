"""A worker group and its job: its members, its orders, and how it ends.

Plain state inside the exchange. It must not wait for anything or know about other groups.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from sweeps.records.events import AttemptEnded, JobStarted, SmokeEnded
from sweeps.workers.failures.causes import Cause, LostGroup, guilty
from sweeps.workers.isolation.patches import Patched
from sweeps.workers.job import SMOKE, Job, Order
from sweeps.workers.messages import Departure, JobError, Member, SmokeStarted

GROWTH = 2.0
"""A group is replaced if its host memory grows beyond this multiple of its baseline."""
STILL_S = 60.0
"""Seconds for which a report of no step counts; a rank repeats it while the stall lasts."""


@dataclass
class Group:
    """The worker processes that have registered."""

    members: dict[int, Member] = field(default_factory=dict)
    """Each rank, in its state before the job."""
    worked: bool = False
    memory: dict[int, int] = field(default_factory=dict)
    """Bytes of memory of each rank after its first job, as a baseline."""
    worn: bool = False
    """Whether it gets no more jobs, because it has grown or its node is draining."""
    draining: bool = False
    patched: dict[int, Patched] = field(default_factory=dict)
    """What the latest job has changed, by rank."""

    @property
    def gpus(self) -> frozenset[tuple[str, str]]:
        """The GPUs of its ranks, by node and id."""
        members = self.members.values()
        return frozenset((each.node, each.gpu) for each in members if each.gpu is not None)

    def take_back(self, departure: Departure, job: Job) -> None:
        """Record a rank that has left its job."""
        rank, memory = departure.rank, departure.memory
        self.patched[rank] = departure.patched
        if job.trial != SMOKE:  # a few steps say little about how much memory trials need
            self.worn |= memory > GROWTH * self.memory.setdefault(rank, memory)
        self.members[rank] = replace(self.members[rank], memory_kills=departure.memory_kills)

    def patched_by_all(self) -> Patched:
        """Return what the latest job has changed on any rank."""
        names = dict.fromkeys(name for each in self.patched.values() for name in each.names)
        made: set[str] = set()
        for rank, each in sorted(self.patched.items()):
            if each.made is None:
                return Patched((*names,), None)
            made |= {f"rank {rank}: {text}" for text in each.made}
        return Patched((*names,), frozenset(made))


@dataclass
class GroupJob:
    """A group that has a job."""

    job: Job
    devices: float
    """Number of devices of the group, for `device_s`."""
    started: float = field(default_factory=time.monotonic)
    """Monotonic seconds."""
    left: set[int] = field(default_factory=set)
    errors: list[JobError] = field(default_factory=list)
    train_s: float = 0.0
    """Seconds inside `Trainer.train()`, up to the latest report or the end."""
    shared: bool = False
    """Whether another group has had a job on its GPU in the meantime."""
    save_at: int | None = None
    """Optimizer step after which every rank saves and leaves the job."""
    stalled: str | None = None
    """The message of a rank that has seen no step for too long."""
    still: dict[int, tuple[float, str]] = field(default_factory=dict)
    """By rank: when it last reported that it sees no step, and its message."""
    carried_out: dict[Order, set[int]] = field(default_factory=dict)
    """Ranks that have carried out an order."""

    def orders(self, group: Group, rank: int) -> list[Order]:
        """Return the orders to a rank, most urgent first."""
        trial = self.job.trial
        orders = [Order("dump", trial)] if self.stalled is not None else []
        if self.save_at is not None:
            orders.append(Order("save", trial, self.save_at))
        elif group.draining and rank == 0:
            orders.append(Order("name a step", trial))
        return orders

    def judge_stall(self, rank: int, message: str, in_library: bool, workers: int) -> None:
        """Record that a rank sees no step, and name the rank that the others are waiting for.

        That is a rank in the user's code. If there is none, all ranks are named once all of them
        have reported, or one of them reports again, since the process of another rank may hang
        entirely. Reports of a stall that is over do not count.
        """
        now = time.monotonic()
        self.still = {each: said for each, said in self.still.items() if now - said[0] < STILL_S}
        again = rank in self.still
        self.still[rank] = now, message
        silent = sorted(set(range(workers)) - self.still.keys())
        if not in_library:
            self.stalled = message
        elif again or not silent:
            unheard = [f"rank {each}: not responding" for each in silent]
            self.stalled = "; ".join([*(text for _, text in self.still.values()), *unheard])

    def cause_of_end(self, group: Group, loss: LostGroup) -> Cause:
        """Return why the job ended with its group."""
        if self.stalled is not None:
            return Cause("stalled", self.stalled)
        if group.draining and all(error.connection for error in self.errors):
            return Cause("preempted", "a node of its worker group was lost")
        return guilty(self.errors, loss)

    def attempt_start(self, group: int) -> JobStarted | SmokeStarted:
        """Return the event for the start of the attempt in this group."""
        if self.job.trial == SMOKE:
            return SmokeStarted()
        return JobStarted(
            trial=self.job.trial, attempt=self.job.attempt, group=group, devices=self.devices
        )

    def attempt_end(self, cause: Cause) -> AttemptEnded | SmokeEnded:
        """Return the event for the end of the attempt at this moment."""
        device_s = (time.monotonic() - self.started) * self.devices
        if self.job.trial == SMOKE:
            return SmokeEnded(
                attempt=self.job.attempt,
                outcome=cause.outcome,
                message=cause.message,
                traceback=cause.traceback,
                fixable=cause.fixable,
                device_s=device_s,
            )
        return AttemptEnded(
            trial=self.job.trial,
            attempt=self.job.attempt,
            outcome=cause.outcome,
            phase=cause.phase,
            message=cause.message,
            traceback=cause.traceback,
            fixable=cause.fixable,
            train_s=self.train_s,
            device_s=device_s,
        )
