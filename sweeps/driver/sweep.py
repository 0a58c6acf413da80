"""The sweep process: runs a sweep to its end, or resumes one, and records everything.

Owns the event log and the connection to Ray. It must not print: followers do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from sweeps.answer.answer import find_answer
from sweeps.config import is_uri
from sweeps.driver import cluster
from sweeps.driver.control import Control
from sweeps.driver.followers import Follower, Followers, Stage, SweepStart
from sweeps.driver.preparing import prepare_data, streamed_rows
from sweeps.driver.quiet import quiet
from sweeps.driver.requests.finished import note_resumption
from sweeps.driver.requests.make_sweep_record import make_record, space_record
from sweeps.driver.round import Round
from sweeps.driver.suggestions import ConfirmationRuns, Suggestions, Suggests
from sweeps.driver.worker_variables import worker_secrets
from sweeps.durable import cannot_create
from sweeps.errors import RayIsGone, SweepError
from sweeps.planning.layout import Layout, check_reach, lay_out
from sweeps.planning.local_gpus import check_gpus, gpu_warnings
from sweeps.planning.precision import on_cpu
from sweeps.planning.request import Request
from sweeps.planning.warnings import UNCHECKED, find_warnings, marked
from sweeps.records import events as ev
from sweeps.records.event_log import ConfirmationLog, EventLog, Log, is_held, locked
from sweeps.records.folder import SweepFolder, new_sweep_id
from sweeps.records.history import History, fold, sweep_status
from sweeps.records.object_storage import fetch_checkpoint
from sweeps.records.remote import of
from sweeps.records.sweep_record import read_record, write_record
from sweeps.records.upload import Upload
from sweeps.searchers.make_searcher import make_searcher
from sweeps.searchers.study_copy import StudyCopy
from sweeps.space.code_copy import copy_code
from sweeps.trackers.known import check_trackers
from sweeps.trackers.process import END_S, TrackerProcesses, bring_up_to_date
from sweeps.workers.job import Definition
from sweeps.workers.pickled_space import pickled
from sweeps.workers.shared_storage import leave_nodes

LOST_ROUNDS = 3
"""Exchanges lost in a row, without a report in between, that end the sweep."""
WITHOUT_RAY_S = 3.0
"""Seconds to wait for trackers if Ray is gone: its client ends this process soon (2.60)."""
NO_REPORT = "no trial reported anything"


@dataclass(frozen=True)
class Outcome:
    """How a sweep process ended."""

    folder: SweepFolder
    history: History
    interrupted: bool


def run_request(request: Request, followers: Sequence[Follower]) -> Outcome:
    """Run a new sweep to its end.

    Args:
        request: The sweep.
        followers: Objects that watch the sweep.

    Raises:
        UserError: A mistake that the user can fix, before the first step; or, at the first report,
        an evaluation without the metric.
        SweepError: The sweep cannot continue.
    """
    check_trackers(request.config)
    config = request.config
    folder = SweepFolder(
        config.storage_folder / new_sweep_id(_id_name(request)),
        config.storage if is_uri(config.storage) else None,
    )
    try:
        folder.logs.mkdir(parents=True)
        write_record(folder, make_record(request, folder.id))
        folder.events_file.touch()  # from here on, the other verbs know the sweep
    except OSError as error:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise cannot_create(folder.path, error) from None
    watching = Followers(followers)
    try:
        copy_code(request.loaded, folder.code)
        with watching:
            return _run(request, folder, watching)
    except BaseException:
        if not watching.begun:
            shutil.rmtree(folder.path, ignore_errors=True)
            if folder.storage is not None:
                with suppress(SweepError):
                    of(folder).delete()
        raise


def _id_name(request: Request) -> str:
    """Return what the sweep's id begins with; a space's name must not refer to a repeated sweep."""
    return request.loaded.name if request.rerun is None else f"{request.loaded.name}-again"


def resume_request(request: Request, folder: SweepFolder, followers: Sequence[Follower]) -> Outcome:
    """Resume a sweep where its log ends, and run it to its end.

    Args:
        request: The sweep as recorded, with the changes.
        folder: The sweep's folder.
        followers: Objects that watch the sweep from now on.

    Raises:
        SweepIsRunning: Another process is running the sweep.
        UserError: See `run_request`.
        SweepError: The sweep cannot continue.
    """
    if is_held(folder.events_file):
        raise locked(folder.id)
    check_trackers(request.config)
    with Followers(followers) as watching:
        return _run(request, folder, watching)


def confirm_request(
    request: Request,
    asked: ev.ConfirmationStarted,
    folder: SweepFolder,
    followers: Sequence[Follower],
) -> Outcome:
    """Run the confirmation of a sweep to its end, starting where its log ends.

    Args:
        request: The confirmation's runs as a sweep.
        asked: What the confirmation compares.
        folder: The sweep's folder.
        followers: Objects that watch the confirmation.

    Returns:
        How it ended; the history is that of its runs.

    Raises:
        SweepIsRunning: Another process is running the sweep.
        UserError: See `run_request`.
        SweepError: The confirmation cannot continue.
    """
    with Followers(followers) as watching:
        outcome = _run(request, folder, watching, asked)
        if not outcome.interrupted:
            bring_up_to_date(folder, read_record(folder).config.trackers, watching.note)
        return outcome


def _run(
    request: Request,
    folder: SweepFolder,
    followers: Followers,
    asked: ev.ConfirmationStarted | None = None,
) -> Outcome:
    """Run a search or, if something is `asked`, the confirmation of a search that has ended."""
    address = cluster.wanted_address(request.config.address)
    doubtful = [UNCHECKED]
    if cluster.is_started_here(address):
        check_gpus(request.config)
        doubtful = gpu_warnings(request.config)
    history = History(*read_record(folder).judged_by)

    def tell_end() -> None:
        followers.end(lambda: find_answer(history, sweep_status(history, held=False)))
        followers.wait()

    with ExitStack() as stack:
        # Closed after Ray: no other process may take the sweep while its workers write.
        upload = Upload(folder) if folder.storage is not None else None
        if upload is not None:
            stack.callback(upload.close)
        choices = prepare_data(
            request.space,
            folder.prepared,
            workers=request.config.workers_per_trial,
            where=request.loaded.where,
            note=followers.note,
        )
        rows = streamed_rows(request.space, choices)
        after_ray = stack.enter_context(ExitStack())
        stack.enter_context(quiet(folder.logs / "sweep.log", loud=followers.thread))
        followers.live(
            Stage("starting Ray" if address is None else f"connecting to Ray at {address}")
        )
        variables = stack.enter_context(cluster.connected(address, folder.code, request.config))
        ray_needs = cluster.parts()
        stack.callback(_leave_nodes, folder, ray_needs)
        stack.callback(tell_end)  # printed before Ray's shutdown, which may end this process
        nodes, autoscaling = cluster.nodes(), cluster.autoscales()
        streams = rows is not None
        if streams:
            check_reach(request.config, len(nodes), autoscaling=autoscaling)
        layout = lay_out(nodes, request.config, streams=streams, autoscaling=autoscaling)
        observers = [history.apply, followers.event]
        again = folder.command("resume" if asked is None else "confirm")
        log = EventLog(folder.events_file, observers, again)
        stack.callback(log.close)
        past = fold(folder.events_file, history)
        followers.begin(
            SweepStart(
                folder=folder,
                space=request.space,
                config=request.config,
                new_scheduler=request.new_scheduler,
                layout=layout,
                past=past,
                confirms=asked is not None,
            )
        )
        part: Log = log
        runs = history
        if asked is None:
            if past:
                now = space_record(request)
                note_resumption(folder, request.config, request.command, now)
            suggestions: Suggests = _suggestions(request, history, followers)
            observers.append(StudyCopy(folder.study, folder.id, request.space, history).take)
        else:
            if history.confirmation is None:
                log.append(asked)
            assert history.confirmation is not None, "it has begun"
            part, runs = ConfirmationLog(log), history.confirmation.runs
            suggestions = ConfirmationRuns(asked, history)
        if upload is not None:
            observers.append(upload.observe)
            upload.put_definition()
            upload.delete_unknown(history)
        # Also delete what a killed sweep process left there.
        shutil.rmtree(folder.scratch, ignore_errors=True)
        stack.callback(shutil.rmtree, folder.scratch, ignore_errors=True)
        control = Control(
            request.space,
            request.config,
            folder,
            part,
            runs,
            request.new_scheduler(),
            suggestions,
            request.loaded.where,
            followers.note,
        )
        for line in _notes(request, layout, doubtful, searches=asked is None):
            followers.note(line)
        kinds = cluster.gpu_kinds() if layout.size.gpus_per_worker > 0 else ["CPU"]
        part.append(ev.SweepStarted(sweep=folder.id, devices=", ".join(kinds) or None))
        trackers = TrackerProcesses(folder, request.config.trackers, followers.note)
        definition = _definition(request, folder, layout)

        def new_round() -> Round:
            return Round(
                control,
                definition,
                layout,
                variables,
                request.config.start_timeout,
                folder.scratch,
                followers,
                rows,
                ray_needs,
            )

        last = _run_rounds(new_round, control, followers)
        fault = _log_end(last, part, control, folder)
        part.close()
        tell_end()
        after_ray.callback(_finish, trackers, followers, ray_is_gone=isinstance(fault, RayIsGone))
        if fault is not None:
            raise fault
        if upload is not None:
            with suppress(SweepError):
                upload.delete_unknown(history)
        return Outcome(folder, runs, last.interrupted)


def _leave_nodes(folder: SweepFolder, ray_needs: Sequence[cluster.Part]) -> None:
    if cluster.silent(ray_needs) is None:
        leave_nodes(folder)


def _suggestions(request: Request, history: History, followers: Followers) -> Suggestions:
    searcher = make_searcher(
        request.space,
        request.config,
        root=request.loaded.root,
        warm_start=request.warm_start_trials,
        note=followers.note,
    )
    given = request.rerun.trials if request.rerun else ()
    where = request.loaded.where
    return Suggestions(request.space, request.config, history, searcher, where, given)


def _run_rounds(new_round: Callable[[], Round], control: Control, followers: Followers) -> Round:
    """Run rounds until no trial is left or the sweep must end; return the last one."""
    history = control.history
    lost, reports = 0, -1
    while True:
        control.catch_up()
        round_ = new_round()
        round_.run()
        lost = lost + 1 if len(history.reports) == reports else 1
        reports = len(history.reports)
        if round_.fault or round_.interrupted or not round_.lost:
            return round_
        if lost == LOST_ROUNDS:
            round_.fault = SweepError(
                f"the sweep stops, because its exchange actor died {lost} times in a row with no"
                f" report in between: {round_.lost}"
            )
            return round_
        followers.note(
            "the exchange actor died; new worker groups continue each trial from its last saved"
            " state"
        )


def _log_end(last: Round, log: Log, control: Control, folder: SweepFolder) -> SweepError | None:
    """Log how the sweep ended, unless it was interrupted; return why it did not end well."""
    if last.fault is not None:
        if not isinstance(last.fault, RayIsGone):
            with suppress(SweepError):  # the fault may be that the log cannot be written
                log.append(ev.SweepEnded(status="failed", reason=str(last.fault)))
        return last.fault
    if last.interrupted:
        return None
    if not control.all_ended():
        verb = "confirm" if isinstance(log, ConfirmationLog) else "resume"
        return SweepError(
            "the sweep stopped before all of its trials had ended; to continue, run:"
            f" {folder.command(verb)}"
        )
    history = control.history
    _fetch_best(folder, history)
    if history.reports:
        log.append(ev.SweepEnded(status="finished", reason=control.end_reason()))
    else:
        log.append(ev.SweepEnded(status="failed", reason=NO_REPORT))
    return None


def _finish(trackers: TrackerProcesses, followers: Followers, *, ray_is_gone: bool) -> None:
    """Wait for the trackers, which still write what they lack; say what is left."""
    for line in trackers.finish(WITHOUT_RAY_S if ray_is_gone else END_S):
        followers.note(line)


def _fetch_best(folder: SweepFolder, history: History) -> None:
    """Download the best checkpoint to this machine, where the MLflow tracker reads it."""
    winner = history.winner()
    if winner is not None and (best := winner.checkpoints.get("best")):
        with suppress(SweepError):
            fetch_checkpoint(folder, best.path)


def _definition(request: Request, folder: SweepFolder, layout: Layout) -> Definition:
    config, size = request.config, layout.size
    return Definition(
        space=pickled(request.loaded, request.space),
        folder=folder,
        started_in=request.base,
        workers=size.workers,
        gpu=size.gpus_per_worker > 0,
        measures_gpu=layout.sharing is not None,
        fresh_workers=config.fresh_workers,
        stall_timeout_s=config.stall_timeout.total_seconds(),
        secrets=worker_secrets(),
    )


def _notes(
    request: Request, layout: Layout, doubtful: Sequence[str], *, searches: bool
) -> list[str]:
    """Return the lines for the user: notes on the request, warnings, what CPUs mean."""
    gpu = layout.size.gpus_per_worker > 0
    warnings = [*doubtful] if gpu else []
    if searches:
        warnings += find_warnings(request, len(cluster.nodes()), gpu=gpu)
    return [*request.lines, *map(marked, warnings), *(() if gpu else on_cpu(request.space))]
