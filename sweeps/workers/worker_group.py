"""The warm worker groups: one `TorchTrainer` each, started, watched and replaced.

Runs in the sweep process, one thread per group. It must not know about trials: the exchange knows
which job a lost group had.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray.actor import ActorHandle

from sweeps.amounts import counted
from sweeps.durations import written
from sweeps.errors import SweepError
from sweeps.workers import train_run
from sweeps.workers.failures.causes import LostGroup, killed_for_memory, left_no_exit_code
from sweeps.workers.group_size import Size
from sweeps.workers.host_memory import memory_kills
from sweeps.workers.messages import Member
from sweeps.workers.on_nodes import on_nodes

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger("sweeps")

START_FAILURES = 3
"""A group counts as unable to start after this many consecutive losses before its first job."""
LOOK_S = 2.0
"""Seconds between two checks of what the groups are waiting for, and of the nodes."""
COMPLAIN_S = 60.0
"""Seconds between two messages about a group that cannot be placed."""
KILLED_END_S = 10.0
"""Seconds for the threads of killed groups to notice that the groups are gone."""
WITHDRAW_S = 5.0
"""Seconds to wait for the groups to withdraw their requests for resources."""
PAUSE_S = 0.2
"""Seconds between two checks of whether the larger groups have their workers."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the groups need to know about the cluster, and where they report."""

    there: Callable[[frozenset[str]], bool]
    """Returns whether the nodes with these ids are alive."""
    draining: Callable[[], frozenset[str]]
    """Returns the ids of the nodes that will be removed."""
    note: Callable[[str], None]
    """Called with a line for the user."""
    fault: Callable[[SweepError], None]
    """Called with the reason why no group can continue."""
    variables: Mapping[str, str]
    """Environment variables of the workers, in addition to those of the Ray job.

    There are some only if that job is the caller's, whose connection to Ray is used and kept.
    """


@dataclass
class _Slot:
    """Keeps one group at a time, and replaces it when it is lost."""

    place: Size | None = None
    """The resources that its group takes; None: it has no group."""
    group: int = 0
    since: float = 0.0
    """Monotonic time when its group was requested."""
    complained: float = 0.0
    waits: bool = False
    """Whether its group was requested and has not ended yet."""
    failures: int = 0
    ended: bool = False
    retired: bool = False
    """Whether it gets no more groups."""
    requesting: threading.Lock = field(default_factory=threading.Lock)
    """Held while resources are requested for its group."""


class WorkerGroups:
    """Keeps groups alive until they are released.

    If groups share GPUs, each GPU has one large slot, and as many small slots as still fit. A group
    that starts takes the largest free slot, and a smaller one only after all larger groups have
    their workers. Otherwise a small group could land on a GPU that has lost its large group, which
    would then find no room on any GPU.

    Args:
        exchange: Where they take their jobs.
        scratch: Folder for the files of Ray Train.
        surroundings: The cluster, and where to report.
        numbers: Yields the number of each group.
        start_timeout: The sweep gives up on a group that has not started after this time.
        rows: Prepared train rows that Ray Data streams to each group; None: none.
    """

    def __init__(
        self,
        exchange: ActorHandle,
        scratch: Path,
        surroundings: Surroundings,
        numbers: Iterator[int],
        start_timeout: timedelta,
        rows: Dataset | None,
    ) -> None:
        self._rows = rows
        self._exchange = exchange
        self._scratch = scratch
        self._around = surroundings
        self._numbers = numbers
        self._start_timeout_s = start_timeout.total_seconds()
        self._closing = threading.Event()
        self._slots: list[_Slot] = []
        self._free: list[Size] = []
        """The resources that no group takes, one entry for each group that may still start."""
        self._placing = threading.Lock()
        self._present: frozenset[int] = frozenset()
        """The groups that have had all of their workers."""
        self._threads: list[threading.Thread] = []
        self._watch = threading.Thread(target=self._look, name="group watch", daemon=True)

    def start(self, count: int, size: Size) -> None:
        """Start groups of this size, initially or in addition; returns at once."""
        slots = [_Slot() for _ in range(count)]
        with self._placing:
            self._free += [size] * count
        self._slots += slots
        for slot in slots:
            thread = threading.Thread(
                target=self._keep, args=(slot,), name="group slot", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        if self._watch.ident is None:
            self._watch.start()

    def let_go(self) -> None:
        """Start no more groups, and withdraw what is requested for those that wait.

        Other groups must not leave before. Ray would give their resources to such a request, and if
        it is withdrawn in the same moment, nobody can use them any more (2.60).
        """
        self._closing.set()
        deadline = time.monotonic() + WITHDRAW_S
        for slot in list(self._slots):
            if slot.requesting.acquire(timeout=max(0.0, deadline - time.monotonic())):
                slot.requesting.release()

    def close(self, timeout_s: float) -> bool:
        """Wait for the groups to end after the exchange let them go, or else kill them.

        If a thread of theirs still waited for Ray while this process leaves Ray, Ray would end this
        process (2.60).

        Args:
            timeout_s: Seconds after which they are killed.

        Returns:
            Whether all have ended by themselves.
        """
        self.let_go()
        if self._have_ended(timeout_s):
            return True
        said = f"a worker group did not stop within {timeout_s:.0f} s"
        if self._around.variables:
            self._around.note(f"{said}; it will end with the connection to Ray")
            return False
        self._around.note(f"{said}, so its processes are being killed")
        with suppress(Exception):  # Ray does not respond
            train_run.kill_all()
        self._have_ended(KILLED_END_S)
        return False

    def _have_ended(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        for thread in (self._watch, *self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _keep(self, slot: _Slot) -> None:
        """Keep one group alive; the death of the exchange is handled elsewhere."""
        try:
            while not self._closing.is_set():
                # The first groups start at once; a replacement starts when there is a job.
                slot.waits = False
                self._leave_place(slot)
                if slot.group and not ray.get(self._exchange.wants_group.remote(slot.group)):
                    slot.retired = True
                    if not self._closing.is_set():
                        self._give_up(slot, "the last one ran out of memory on a shared GPU")
                    return
                slot.group = next(self._numbers)
                size = self._take_place(slot)
                while self._larger_start(size) and self._is_wanted(slot):
                    self._closing.wait(PAUSE_S)
                slot.since = slot.complained = time.monotonic()
                slot.waits = True
                while self._has_room(slot, size):
                    error = train_run.run(
                        size,
                        self._exchange,
                        slot.group,
                        self._scratch,
                        self._around.variables,
                        self._rows,
                    )
                    if not train_run.found_no_room(error):
                        break
                else:
                    return
                if self._closing.is_set():
                    return
                if error is None:  # ended on request: its memory grew, its node drains
                    slot.failures = 0
                    ray.get(self._exchange.group_lost.remote(slot.group, LostGroup()))
                    continue
                loss = self._loss(slot.group, error)
                had_job = ray.get(self._exchange.group_lost.remote(slot.group, loss))
                if not had_job and (fixable := train_run.fixable(error)) is not None:
                    self._around.fault(fixable)
                    return
                slot.failures = 0 if had_job else slot.failures + 1
                if slot.failures == START_FAILURES:
                    failed = f"failed to start {START_FAILURES} times in a row"
                    self._give_up(
                        slot,
                        f"the last one {failed}: {error}",
                        f"a worker group {failed}, last as group {slot.group}; the sweep continues"
                        f" with the other groups: {error}",
                    )
                    return
        except ray.exceptions.RayActorError:
            return
        except Exception as error:
            if not self._closing.is_set():
                text = f"the sweep cannot continue: {type(error).__name__}: {error}"
                self._around.fault(SweepError(text))

    def _has_room(self, slot: _Slot, size: Size) -> bool:
        """Wait for the resources of a group; return False if it is no longer wanted."""
        with slot.requesting:
            return train_run.wait_for_room(size, lambda: self._is_wanted(slot))

    def _give_up(self, slot: _Slot, why: str, note: str = "") -> None:
        """Start no group in a slot any more; without any other slot, the sweep cannot continue.

        Args:
            slot: The slot.
            why: What happened to it, for the message if it is the last one.
            note: A line for the user if it is not the last one.
        """
        slot.ended = True
        if all(other.ended for other in self._slots):
            self._around.fault(SweepError(f"no worker group is left: {why}"))
        elif note:
            self._around.note(note)

    def _take_place(self, slot: _Slot) -> Size:
        """Give a slot the largest free place, and return it."""
        with self._placing:
            slot.place = max(self._free, key=lambda size: size.gpus_per_worker)
            self._free.remove(slot.place)
            return slot.place

    def _leave_place(self, slot: _Slot) -> None:
        with self._placing:
            if slot.place is not None:
                self._free.append(slot.place)
                slot.place = None

    def _larger_start(self, size: Size) -> bool:
        """Tell whether a group with more of a GPU is still waiting for its workers."""
        return any(
            slot.place is not None
            and slot.place.gpus_per_worker > size.gpus_per_worker
            and slot.group not in self._present
            for slot in self._slots
            if not slot.ended
        )

    def _is_wanted(self, slot: _Slot) -> bool:
        """Tell whether a group that is waiting for resources is still wanted."""
        return not (slot.ended or self._closing.is_set())

    def _loss(self, group: int, error: Exception) -> LostGroup:
        """Return what the sweep process knows about a lost group."""
        members: dict[int, Member] = ray.get(self._exchange.members.remote(group))
        nodes = frozenset(member.node for member in members.values())
        said = train_run.said_of_ranks(error)
        if not self._around.there(nodes):
            return LostGroup(died=said, node_gone=True)
        asked = {m.node for rank, m in members.items() if left_no_exit_code(said.get(rank, ""))}
        kills = on_nodes(memory_kills, asked)
        return LostGroup(died=said, for_memory=killed_for_memory(said, members, kills))

    def _look(self) -> None:
        """Report what groups are waiting for, and make those on a draining node save at once."""
        warned: frozenset[str] = frozenset()
        while not self._closing.wait(LOOK_S):
            try:
                self._present |= ray.get(self._exchange.present.remote())
                if going := self._around.draining() - warned:
                    warned |= going
                    if groups := ray.get(self._exchange.drain_nodes.remote(going)):
                        self._around.note(
                            f"{counted(groups, 'worker group')} on draining nodes: trials"
                            " there are saving now and will continue elsewhere"
                        )
                for slot in self._slots:
                    self._complain(slot)
            except ray.exceptions.RayActorError:
                return
            except Exception:  # the cluster does not respond; the next check may succeed
                logger.exception("the cluster does not respond; trying again")

    def _complain(self, slot: _Slot) -> None:
        now, pause_s = time.monotonic(), min(COMPLAIN_S, self._start_timeout_s)
        if slot.retired:
            return
        if slot.group in self._present and slot.failures < START_FAILURES:
            slot.ended = False
            return
        place = slot.place
        if slot.ended or not slot.waits or place is None or now - slot.complained < pause_s:
            return
        slot.complained = now
        lacking = train_run.lacking(place)
        self._around.note(f"group {slot.group} is waiting for its workers: {lacking}")
        if now - slot.since >= self._start_timeout_s:
            within = f"within {written(timedelta(seconds=self._start_timeout_s))} (--start-timeout)"
            self._give_up(
                slot,
                f"group {slot.group} did not start {within}: {lacking}",
                f"giving up on group {slot.group}, because it did not start {within}; the sweep"
                " continues with the other groups",
            )
