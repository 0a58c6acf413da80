"""One round of a sweep: an exchange, its worker groups and Tune, until no trial is left.

Runs in the sweep process: Tune in one thread, the pump in another, which alone calls `control.py`.
The main thread waits, so that it handles signals at once. This module must not decide anything. A
sweep has one round, and another one whenever it loses its exchange.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from sweeps.driver import cluster
from sweeps.driver.control import Control
from sweeps.driver.followers import Followers, Stage
from sweeps.driver.interrupts import interrupts
from sweeps.driver.tune_driver import drive
from sweeps.errors import RayIsGone, SweepError
from sweeps.planning.layout import Layout
from sweeps.planning.sharing import further_size, groups_now, in_words, trials_per_gpu
from sweeps.records.events import AttemptEnded, Event, GpuMeasured, Reported, SmokeEnded
from sweeps.report import Steps
from sweeps.workers.exchange import Exchange
from sweeps.workers.job import Definition
from sweeps.workers.messages import Message, Note, SmokeStarted, TrialWanted
from sweeps.workers.worker_group import Surroundings, WorkerGroups

if TYPE_CHECKING:
    from datasets import Dataset

GROUPS_END_S = 30.0
"""Seconds that worker groups get to end by themselves."""
LOOK_S = 1.0
"""Seconds between two checks of whether the round still has its Ray cluster."""
TUNE_END_S = 3.0
"""Seconds that Tune gets to end when Ray is gone."""
LAST_BATCH_S = 30.0
"""Seconds that the pump gets to log what it has taken when Ray is gone."""
MANY = 10_000
"""Maximum number of calls that may wait in the exchange at once."""


class Round:
    """What Tune's thread, the groups' threads and the pump share.

    Args:
        control: Makes and logs decisions.
        definition: What the workers receive.
        layout: Worker groups on the cluster.
        variables: Environment variables of the workers, beyond the Ray job's own.
        start_timeout: How long to wait for a group to start.
        scratch: Folder for Tune's and Train's own files.
        followers: Receive lines for the user, and what trials are doing right now.
        rows: Prepared train rows that Ray Data streams to each group; None: none.
        ray_needs: The parts of Ray without which no round can go on.
    """

    def __init__(
        self,
        control: Control,
        definition: Definition,
        layout: Layout,
        variables: Mapping[str, str],
        start_timeout: timedelta,
        scratch: Path,
        followers: Followers,
        rows: Dataset | None,
        ray_needs: Sequence[cluster.Part],
    ) -> None:
        self.interrupted = False
        """Whether the user ended the sweep."""
        self._tune_error: Exception | None = None
        self._over = threading.Event()
        """Set once Tune and the groups have ended, or cannot end."""
        self.lost: Exception | None = None
        """Ray's error if the exchange died; all state except the log is lost then."""
        self.fault: SweepError | None = None
        """Why the sweep cannot continue."""
        self._control = control
        self._layout = layout
        self._scratch = scratch
        self._followers = followers
        self._ending = threading.Event()
        self._wanted = False
        """Whether Tune waits for a trial."""
        self._open: set[str] = set()
        """Trials that were given to Tune and may be running."""
        self._ray_needs = ray_needs
        self._taking = threading.Lock()
        """Held while the pump logs what happened, and for good once Ray is gone."""
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._exchange = (
            ray.remote(Exchange)
            .options(num_cpus=0, max_concurrency=MANY, scheduling_strategy=here)
            .remote(definition, layout.size.devices)
        )
        jobs = [t.job.group for t in control.history.trials.values() if t.job]
        self._groups = WorkerGroups(
            self._exchange,
            scratch,
            Surroundings(
                there=cluster.there,
                draining=cluster.draining,
                note=followers.note,
                fault=self._fail,
                variables=variables,
            ),
            itertools.count(1 + max(jobs, default=0)),
            start_timeout,
            rows,
        )

    def run(self) -> None:
        """Run trials until there are no more, or something ends the round."""
        self._followers.live(Stage("starting the workers"))
        self._start_groups()
        pump = threading.Thread(target=self._pump, name="pump", daemon=True)
        pump.start()
        tune = threading.Thread(target=self._drive, args=(pump,), name="tune", daemon=True)
        with interrupts(self._interrupt):
            tune.start()
            try:
                dead = self._wait()
            except KeyboardInterrupt:  # a second Ctrl-C
                tune.join(GROUPS_END_S)
                raise
        if dead is not None:
            self._leave_ray(dead, tune)
            return
        tune.join(GROUPS_END_S)  # it must drop its Ray handles before Ray is shut down
        if self._tune_error is not None and self._is_unexpected(self._tune_error):
            raise self._tune_error

    def _wait(self) -> cluster.Part | None:
        """Wait until Tune and the groups have ended; return a part of Ray that has died first.

        Every thread that calls Ray would then wait for ever. A part may be away for a moment. But a
        signal that ends the round may also end the cluster that the sweep joined, and Ray's client
        ends this process a minute later (2.60).
        """
        away, since = None, 0.0
        while not self._over.wait(LOOK_S):
            before, away = away, cluster.silent(self._ray_needs)
            if away != before:
                since = time.monotonic()
            if away and (self.interrupted or time.monotonic() - since >= away.patience_s):
                return away
        ended_early = self.interrupted or self.lost is not None
        return cluster.silent(self._ray_needs) if ended_early else None

    def _leave_ray(self, dead: cluster.Part, tune: threading.Thread) -> None:
        """End the round without waiting for Ray."""
        what = (
            "the sweep was interrupted, and its Ray cluster has already shut down"
            if self.interrupted
            else f"the sweep stops, because Ray's {dead.name} at {dead.host}:{dead.port} has died"
        )
        self.fault = RayIsGone(
            f"{what}; a resume continues each running trial from its last saved state",
            interrupted=self.interrupted,
        )
        self._taking.acquire(timeout=LAST_BATCH_S)  # the log has one writer at a time
        if not self.interrupted:
            self._ending.set()
            self._groups.let_go()
            tune.join(TUNE_END_S)

    def _start_groups(self) -> None:
        self._groups.start(self._layout.groups, self._layout.size)
        self._start_further_groups()

    def _start_further_groups(self) -> None:
        """Start as many groups that share GPUs with the first ones as is known to be safe."""
        history = self._control.history
        if more := groups_now(self._layout, history) - self._layout.groups:
            per_gpu = trials_per_gpu(self._layout, history)
            self._groups.start(more, further_size(self._layout, per_gpu))

    def _drive(self, pump: threading.Thread) -> None:
        """Run Tune, then end the groups."""
        try:
            drive(
                self._exchange,
                next_trial=self._next_trial,
                ending=self._ending,
                trials_at_once=self._layout.most,
                scratch=self._scratch,
            )
        except Exception as error:
            self._tune_error = error
        try:
            if not isinstance(self.fault, RayIsGone):
                self._end(pump)
        except Exception as error:
            self._tune_error = self._tune_error or error
        finally:
            self._over.set()

    def _end(self, pump: threading.Thread) -> None:
        """Let the groups end, and log what they still report."""
        self._groups.let_go()
        with suppress(ray.exceptions.RayError):  # the exchange itself may be lost
            if self._ending.is_set():
                ray.get(self._exchange.abort.remote())
            ray.get(self._exchange.finish.remote())
        self._groups.close(GROUPS_END_S)
        with suppress(ray.exceptions.RayError):
            ray.get(self._exchange.end_events.remote())
        pump.join(GROUPS_END_S)
        ray.kill(self._exchange)
        pump.join()  # the log has one writer at a time

    # Tune's requests, in Tune's thread.

    def _next_trial(self) -> tuple[str, int] | None:
        if self._ending.is_set():
            return None
        try:
            following: tuple[str, int] | None = ray.get(self._exchange.ask_for_trial.remote())
        except ray.exceptions.RayActorError as error:
            self._lose(error)
            return None
        return following

    # Everything that happens, in order, in the pump's thread.

    def _pump(self) -> None:
        try:
            self._begin_smoke()  # trials are suggested meanwhile, but wait for its result
            while (happened := ray.get(self._exchange.events.remote())) is not None:
                with self._taking:
                    for message in happened:
                        self._take(message)
        except ray.exceptions.RayActorError as error:
            self._lose(error)
        except BaseException as error:
            logging.getLogger("sweeps").exception("the pump failed")
            self._is_unexpected(error)

    def _begin_smoke(self) -> None:
        try:
            if (job := self._control.smoke_job()) is not None:
                ray.get(self._exchange.submit.remote(job, {}))  # before any trial
        except SweepError as error:
            self._fail(error)

    def _take(self, message: Message) -> None:
        try:
            match message:
                case TrialWanted():
                    self._wanted = True
                case Note(text=text):
                    self._followers.note(text)
                case Steps():
                    self._followers.live(message)
                case SmokeStarted():
                    self._followers.live(Stage("smoke run"))
                case Reported(report=report):
                    answer = self._control.decide(message)
                    self._exchange.decide.remote(report.trial, report.number, answer)
                case _:
                    self._note_event(message)
            at_once = groups_now(self._layout, self._control.history)
            if self._wanted and not self._ending.is_set() and len(self._open) < at_once:
                self._hand_out()
        except SweepError as error:
            self._fail(error)

    def _note_event(self, event: Event) -> None:
        again = self._control.take(event)
        if isinstance(event, GpuMeasured) and event is self._control.history.gpu_use:
            if (line := in_words(self._layout, self._control.history)) is not None:
                self._followers.note(line)
            self._start_further_groups()
        if again is not None:
            if not self._ending.is_set():
                self._exchange.submit.remote(*again)
        elif isinstance(event, AttemptEnded):
            self._open.discard(event.trial)
            self._exchange.close_trial.remote(event.trial, event.attempt)
        elif isinstance(event, SmokeEnded):
            self._exchange.smoke_over.remote()

    def _hand_out(self) -> None:
        """Give Tune its next trial if there is one now, or tell it that there are no more."""
        following = self._control.next_trial()
        if following == "wait":
            return
        self._wanted = False
        if following is None:
            self._exchange.no_more_trials.remote()
            return
        job, answers = following
        self._open.add(job.trial)
        self._exchange.hand_out.remote(job, answers)

    # What ends a round early.

    def _lose(self, error: Exception) -> None:
        if not self._ending.is_set():
            self.lost = error
        self._end_now()

    def _fail(self, fault: SweepError) -> None:
        self.fault = self.fault or fault
        self._end_now()

    def _is_unexpected(self, error: BaseException) -> bool:
        """End the round after an error; tell whether it is unexpected (a missing log is not)."""
        try:
            self._control.check_log()
        except SweepError as gone:
            self._fail(gone)
            return False
        self._fail(SweepError(f"the sweep cannot continue: {type(error).__name__}: {error}"))
        return True

    def _interrupt(self) -> None:
        self.interrupted = True
        self._followers.note(
            "stopping: a resume continues each running trial from its last saved state, or from the"
            " start if it has none"
        )
        self._end_now()

    def _end_now(self) -> None:
        self._ending.set()
        self._groups.let_go()
        self._exchange.abort.remote()
