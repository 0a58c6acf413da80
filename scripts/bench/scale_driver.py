"""What a sweep's own processes do for a report and for a trial, for `scale.py`."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

from closed_form import (
    AT_ONCE,
    STEPS,
    begin,
    controlled,
    finished_log,
    report,
    request_of,
)

from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.sweep_record import read_record
from sweeps.report import Steps
from sweeps.searchers.make_searcher import make_searcher
from sweeps.workers.exchange import Exchange
from sweeps.workers.job import Definition, Job, Reply
from sweeps.workers.messages import Member

WINDOW = 50
"""Number of trials before and after a point whose times count, and number of reports with which the
exchange is timed."""


def measure_decisions(storage: Path, trials: int, evaluations: int) -> dict[str, Any]:
    """Play trials through the control, 16 at a time, and time each decision and each new trial."""
    request = request_of(storage, trials, evaluations)
    folder = begin(storage, request, "curve-20261128-0000-bbbb")
    history = History(*read_record(folder).judged_by)
    observers = [history.apply]
    log = EventLog(folder.events_file, observers)
    control, study = controlled(request, folder, log, history)
    observers.append(study.take)
    log.append(ev.SweepStarted(sweep=folder.id, devices="CPU"))
    control.catch_up()
    decisions: dict[int, list[float]] = {}
    computed: dict[int, list[float]] = {}
    suggestions: dict[int, list[float]] = {}
    running: dict[str, int] = {}
    while True:
        while len(running) < AT_ONCE:
            start = time.perf_counter()
            submitted = control.next_trial()
            if submitted is None or submitted == "wait":
                break
            name = submitted[0].trial
            suggestions.setdefault(int(name[1:]), []).append(time.perf_counter() - start)
            control.take(ev.JobStarted(trial=name, attempt=1, group=1, devices=1))
            running[name] = 0
        if not running:
            break
        for name in list(running):
            running[name] += 1
            rate = history.trials[name].params["learning_rate"]
            event = ev.Reported(report=report(name, running[name], evaluations, rate))
            start, cpu_start = time.perf_counter(), time.process_time()
            answer = control.decide(event)
            cpu_s = time.process_time() - cpu_start
            computed.setdefault(int(name[1:]), []).append(cpu_s)
            decisions.setdefault(int(name[1:]), []).append(time.perf_counter() - start)
            if answer.decision == "stop" or running[name] == evaluations:
                del running[name]
                train_s = event.report.train_s
                control.take(
                    ev.AttemptEnded(
                        trial=name, attempt=1, outcome="done", train_s=train_s, device_s=train_s
                    )
                )
    log.close()
    return {
        "trials": len(history.trials),
        "reports": len(history.reports),
        "decision_ms": {at: around(decisions, at) for at in (100, trials - WINDOW)},
        "decision_cpu_ms": {at: around(computed, at) for at in (100, trials - WINDOW)},
        "new_trial_ms": {at: around(suggestions, at) for at in (100, trials - WINDOW)},
    }


def around(times: dict[int, list[float]], at: int) -> float:
    """Return the median in ms over the trials around one."""
    near = [t for trial, each in times.items() if abs(trial - at) <= WINDOW for t in each]
    return statistics.median(near) * 1000


def measure_proposals(storage: Path) -> dict[int, float]:
    """Return the CPU time in ms for a new trial's params, by number of earlier trials."""
    found: dict[int, float] = {}
    for trials in (100, 1_000, 10_000):
        request = request_of(storage, trials, 1)
        history = History("eval_accuracy", "max")
        for event in finished_log(trials, 1):
            history.apply(event)
        searcher = make_searcher(
            request.space, request.config, root=storage, warm_start=(), note=lambda _: None
        )
        searcher.propose(history)  # later calls reuse its work on ended trials
        times = []
        for _ in range(5):
            start = time.process_time()
            searcher.propose(history)
            times.append(time.process_time() - start)
        found[trials] = statistics.median(times) * 1000
    return found


async def measure_exchange(storage: Path, groups: int) -> dict[str, float]:
    """Return the CPU time in ms of a report with its decision, and of a progress message."""
    definition = Definition(
        space=b"",
        folder=SweepFolder(storage),
        workers=1,
        gpu=False,
        measures_gpu=False,
        fresh_workers=False,
        started_in=storage,
        stall_timeout_s=1800.0,
        secrets={},
    )
    exchange = Exchange(definition, 1)
    waiting: list[asyncio.Task[Any]] = []
    for group in range(1, groups + 1):
        trial = f"t{group:03}"
        await exchange.hello(group, 0, Member(node="node", gpu=None, memory_kills=0))
        await exchange.submit(Job(trial=trial, attempt=1, params={}, seed=0, checkpoint=None), {})
        await exchange.next_job(group, 0)
        waiting.append(asyncio.create_task(exchange.next_order(group, 0, frozenset())))
        waiting.append(asyncio.create_task(exchange.trial_closed(trial, 1)))
    await asyncio.sleep(0)
    await exchange.events()
    reports = [report("t001", number, WINDOW, 1e-4) for number in range(1, WINDOW + 1)]
    go_on = Reply("continue", save_best=False, save_state=False)
    start = time.process_time()
    for each in reports:
        await exchange.report(1, each)
        answer = asyncio.create_task(exchange.answer("t001", each.number))
        await exchange.events()
        await exchange.decide("t001", each.number, go_on)
        await answer
    reported = time.process_time()
    for step in range(1, WINDOW + 1):
        events = asyncio.create_task(exchange.events())
        await asyncio.sleep(0)
        steps = Steps(
            trial="t001", step=step, max_steps=STEPS, evaluating=False, rows_per_s=None, newest=None
        )
        await exchange.steps(1, steps)
        await events
    told = time.process_time()
    for call in waiting:
        call.cancel()
    return {
        "report_ms": (reported - start) / WINDOW * 1000,
        "steps_ms": (told - reported) / WINDOW * 1000,
    }
