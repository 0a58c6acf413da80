"""The sweep process: runs a request to its end, and writes down everything on the way.

Owns the event log and the worker groups; Tune drives the trials. It must not print: observers are
told.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.folder import SweepFolder, new_sweep_id
from sweeps.records.history import History, count
from sweeps.records.tracking import check_tracking, finish_writer, start_writer
from sweeps.search import cluster
from sweeps.search.definition import Request, write_record
from sweeps.search.doubts import doubts
from sweeps.search.interrupts import interrupts
from sweeps.search.keeping import Keeper
from sweeps.search.layout import Layout, lay_out
from sweeps.search.scheduler import Decider
from sweeps.search.searcher import Proposals
from sweeps.search.tune_driver import drive
from sweeps.space.arguments import half_precision_switched_off
from sweeps.space.loading import copy_code
from sweeps.space.report import Report
from sweeps.workers.exchange import Exchange
from sweeps.workers.job import Answer, Definition
from sweeps.workers.worker_group import WorkerGroups

GROUPS_END_S = 30.0
"""Seconds that worker groups get to end by themselves."""
TRACKING_END_S = 60.0
"""Seconds that the sweep waits for MLflow after its end."""
MANY = 10_000
"""Calls that wait at the exchange at once, at most."""


@dataclass(frozen=True)
class Observer:
    """Who is told what happens, from any thread, one call at a time."""

    begins: Callable[[SweepFolder, Layout], None]
    """The sweep's folder is there, and so is its place on the cluster."""
    event: Callable[[ev.Event], None]
    note: Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How a sweep process ended."""

    folder: SweepFolder
    history: History
    interrupted: bool


def run_request(request: Request, observer: Observer) -> Outcome:
    """Run a sweep to its end.

    Raises:
        UserError: What the user can fix, before the first step, or at the first report where the
            evaluation has no such metric.
        SweepError: The sweep cannot go on.
    """
    check_tracking(request.tracking_uri)
    address = cluster.wanted_address(request.config.address)
    folder = SweepFolder(request.config.storage_folder / new_sweep_id(request.loaded.name))
    folder.logs.mkdir(parents=True)
    write_record(request, folder)
    try:
        copy_code(request.loaded, folder.code)
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sweeps-")))
            stack.enter_context(cluster.quiet(folder.logs / "sweep.log"))
            observer.note("starting Ray" if address is None else f"joining Ray at {address}")
            stack.enter_context(cluster.connected(address, folder.code))
            layout = lay_out(cluster.nodes(), request.config, autoscaling=cluster.grows())
            return _Sweep(request, folder, layout, scratch, observer).run()
    except BaseException:
        if not folder.events_file.exists():
            shutil.rmtree(folder.path)  # it never began
        raise


class _Sweep:
    """The running sweep: what Tune's thread, the groups' threads and the pump share."""

    def __init__(
        self,
        request: Request,
        folder: SweepFolder,
        layout: Layout,
        scratch: Path,
        observer: Observer,
    ) -> None:
        self.request = request
        self.space, self.config = request.space, request.config
        self.folder = folder
        self.layout = layout
        self.scratch = scratch
        self.observer = observer
        self.history = History(self.space.metric, self.space.mode)
        self.decider = Decider(self.config, self.history)
        self.proposals = Proposals(self.space, self.config, self.request.known)
        self.log = ev.EventLog(folder.events_file, (self.history.apply, observer.event))
        self.keeper = Keeper(folder, self.log, self.history, self.config.keep_checkpoints)
        self.ending = threading.Event()
        """Set when the sweep must end before all trials have."""
        self.interrupted = False
        self.fault: SweepError | None = None

    def run(self) -> Outcome:
        self.observer.begins(self.folder, self.layout)
        for line in self._notes():
            self.observer.note(line)
        self.log.append(ev.SweepStarted(sweep=self.folder.id))
        writer = start_writer(self.folder)
        size = self.layout.size
        definition = Definition(
            space=cloudpickle.dumps(self.space),
            folder=self.folder,
            workers=size.workers,
            gpu=size.gpus_per_worker > 0,
            seed=self.config.seed,
            fresh_workers=self.config.fresh_workers,
            secrets=cluster.secrets(),
        )
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.exchange = (
            ray.remote(Exchange)
            .options(num_cpus=0, max_concurrency=MANY, scheduling_strategy=here)
            .remote(definition, size.devices)
        )
        groups = WorkerGroups(
            self.layout.groups,
            size,
            self.exchange,
            self.scratch,
            lambda message: self._fail(SweepError(message)),
        )
        groups.start()
        pump = threading.Thread(target=self._pump, name="pump", daemon=True)
        pump.start()
        try:
            with interrupts(self._interrupt):
                drive(
                    self.exchange,
                    new_trial=self._new_trial,
                    on_report=self._on_report,
                    ending=self.ending,
                    trials_at_once=self.layout.groups,
                    scratch=self.scratch,
                )
        except Exception as error:
            self._fail(SweepError(f"the sweep cannot go on: {type(error).__name__}: {error}"))
            raise
        finally:
            self._end(groups, pump)
        if warning := finish_writer(writer, TRACKING_END_S):
            self.observer.note(warning)
        if self.fault is not None:
            raise self.fault
        return Outcome(self.folder, self.history, self.interrupted)

    def _end(self, groups: WorkerGroups, pump: threading.Thread) -> None:
        """Let the groups go, write the sweep's end if it has come to one, close the log."""
        with suppress(ray.exceptions.RayError):  # the exchange may be what was lost
            if self.ending.is_set():
                ray.get(self.exchange.abort.remote())
            ray.get(self.exchange.finish.remote())
        if not groups.close(GROUPS_END_S):
            self.observer.note("a worker group did not end by itself; it ends with Ray")
        with suppress(ray.exceptions.RayError):
            ray.get(self.exchange.drain.remote())
        pump.join(GROUPS_END_S)
        ray.kill(self.exchange)
        if self.fault is not None:
            self.log.append(ev.SweepEnded(status="failed", reason=str(self.fault)))
        elif not self.interrupted and self._all_have_ended():
            reported = any(trial.reports for trial in self.history.trials.values())
            self.log.append(
                ev.SweepEnded(
                    status="finished" if reported else "failed",
                    reason=None if reported else "no trial reported anything",
                )
            )
        self.log.close()

    def _all_have_ended(self) -> bool:
        return not count(self.history.trials.values(), "waiting", "running")

    def _notes(self) -> list[str]:
        lines = [*self.request.lines, *doubts(self.request, len(cluster.nodes()))]
        if self.layout.size.gpus_per_worker == 0:
            lines.append("no GPU in use: training on the CPU")
            if off := half_precision_switched_off(self.space):
                lines.append(f"{', '.join(off)} switched off: half precision needs a GPU")
        return lines

    # What Tune asks, in the main thread.

    def _out_of_time(self) -> bool:
        budget = self.config.time_budget
        started = self.history.started
        return (
            budget is not None
            and started is not None
            and time.time() - started > budget.total_seconds()
        )

    def _new_trial(self) -> tuple[str, Mapping[str, Any]] | None:
        with self.log.lock:
            number = len(self.history.trials) + 1
            if number > self.config.num_trials or self._out_of_time() or self.ending.is_set():
                return None
            try:
                proposed = self.proposals.propose(self.history)
            except UserError as error:  # a constraint raised
                self._fail(UserError(error.problems, self.request.loaded.where))
                return None
            if proposed is None:
                self.observer.note(
                    f"the space is used up after {number - 1} trials: no params are left that keep"
                    " its constraints and that no trial has had"
                )
                return None
            params, origin = proposed
            trial = f"t{number:03}"
            self.log.append(ev.TrialSuggested(trial=trial, params=params, origin=origin))
            return trial, params

    def _on_report(self, report: Report) -> None:
        if self.space.metric not in report.metrics:
            produced = ", ".join(sorted(report.metrics))
            self._fail(
                UserError(
                    f"metric {self.space.metric!r} is not among what the evaluation produces:"
                    f" {produced}",
                    self.request.loaded.where,
                )
            )
            return
        with self.log.lock:
            # Tune may ask for the next report before the exchange has this one's answer, and is
            # given the same one again.
            decided = self.history.trials[report.trial].decisions.get(report.number)
            if decided is None:
                self.log.append(ev.Reported(report=report))
                decided = self.decider.decide(report, out_of_time=self._out_of_time())
                self.log.append(decided)
        answer = Answer(decided.stop, decided.save_best, decided.save_state)
        self.exchange.decide.remote(report.trial, report.number, answer)

    # What the workers did, in the pump's thread.

    def _pump(self) -> None:
        try:
            while (happened := ray.get(self.exchange.events.remote())) is not None:
                for event in happened:
                    self._take(event)
        except BaseException as error:
            logging.getLogger("sweeps").exception("the pump failed")
            lost = isinstance(error, ray.exceptions.RayError)
            what = "the sweep lost its exchange" if lost else "the sweep cannot go on"
            self._fail(SweepError(f"{what}: {type(error).__name__}: {error}"))

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.CheckpointSaved():
                self.keeper.keep(event)
            case ev.AttemptEnded(outcome="interrupted"):
                self.log.append(event)
            case ev.AttemptEnded():
                if event.traceback:
                    (self.folder.logs / f"{event.trial}.traceback").write_text(event.traceback)
                with self.log.lock:
                    self.log.append(event, self._verdict(event))
                    self.keeper.tidy(event.trial)
                self.exchange.close_trial.remote(event.trial)
                if event.fixable:
                    self._fail(UserError(event.message or "", self.request.loaded.where))
            case _:
                self.log.append(event)

    def _verdict(self, attempt: ev.AttemptEnded) -> ev.TrialEnded:
        trial = self.history.trials[attempt.trial]
        if attempt.outcome != "done":
            assert attempt.outcome != "interrupted"
            return ev.TrialEnded(trial=trial.id, status="failed", failure=attempt.outcome)
        if trial.diverged:
            return ev.TrialEnded(trial=trial.id, status="failed", failure="diverged")
        if not trial.reports:
            return ev.TrialEnded(trial=trial.id, status="failed", failure="error")
        whole = trial.reports[-1].progress >= 1
        return ev.TrialEnded(trial=trial.id, status="finished" if whole else "stopped_early")

    # Ends before all trials have.

    def _fail(self, fault: SweepError) -> None:
        self.fault = self.fault or fault
        self._end_now()

    def _interrupt(self) -> None:
        self.interrupted = True
        self._end_now()

    def _end_now(self) -> None:
        self.ending.set()
        self.exchange.abort.remote()
