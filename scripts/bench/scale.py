"""How a sweep's own work grows with its trials: `python scripts/bench/scale.py [--json FILE]`.

Without Ray and without training. `log` writes the log of a finished sweep by its real events, and
times what reads it: `results`, `report`, `list --sweeps` and `resume` of a finished sweep, each as
a command, and what a resume that adds a trial does besides Ray. `decisions` plays closed-form
trials through the sweep process's own control, log on disk included, 16 at a time, and times a
decision and a new trial around trial 100 and around the last one. `proposals` times the params of a
new trial after 100, 1,000 and 10,000 trials. `exchange` times what one report and one word of how
far a trial is cost the exchange with 16, 100 and 1,000 groups, without Ray's own calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sweeps.config import SweepConfig
from sweeps.driver.control import Control
from sweeps.driver.finished import Changes
from sweeps.driver.new_request import make_request
from sweeps.driver.record import make_record
from sweeps.driver.resumption import make_resumption
from sweeps.driver.suggestions import Suggestions
from sweeps.planning.request import Request
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History, fold
from sweeps.records.sweep_record import read_record, write_record
from sweeps.report import LogEntry, Report, Steps
from sweeps.searchers.make_searcher import make_searcher
from sweeps.searchers.study_copy import StudyCopy
from sweeps.space.code_copy import copy_code
from sweeps.workers.exchange import Exchange
from sweeps.workers.job import Definition, Job, Member, Reply

SPACE = '''"""A closed-form curve."""

from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace


def build(args: TrainingArguments) -> Trainer:
    """Build nothing: no trial of this space is trained."""
    raise NotImplementedError


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_accuracy",
    mode="max",
    tuned={
        "learning_rate": tune.loguniform(1e-6, 1e-2),
        "weight_decay": tune.uniform(0.0, 0.3),
        "warmup_steps": tune.uniform(0.0, 0.2),
    },
    first_params=[{"learning_rate": 1e-4, "weight_decay": 0.01, "warmup_steps": 0.1}],
    evals_per_trial=EVALUATIONS,
)
'''
STEPS = 800
ROWS = 1000
"""Evaluation rows of a report, whose outcomes it carries."""
AT_ONCE = 16
WINDOW = 50
"""Trials around a point whose decisions are timed."""


def value_of(learning_rate: float, progress: float) -> float:
    """Return the accuracy of a trial: best at 1e-4, rising with progress."""
    height = math.exp(-((math.log10(learning_rate) + 4) ** 2) / 2)
    return round(0.5 + 0.4 * height * (1 - math.exp(-3 * progress)), 3)


def report(trial: str, number: int, evaluations: int, learning_rate: float) -> Report:
    """Return a report as a text classification sends it."""
    step = STEPS * number // evaluations
    accuracy = value_of(learning_rate, number / evaluations)
    right = random.Random(f"{trial} {number}").sample(range(ROWS), round(accuracy * ROWS))
    bits = sum(1 << row for row in right)
    return Report(
        trial=trial,
        number=number,
        step=step,
        max_steps=STEPS,
        epoch=3 * number / evaluations,
        metrics={"eval_accuracy": accuracy, "eval_f1": accuracy - 0.01, "eval_loss": 1 - accuracy},
        eval_rows=ROWS,
        labels_per_row=1,
        right_rows=f"0123456789abcdef:{bits:0{ROWS // 4}x}",
        train_s=10.0 * number,
        log_entries=tuple(
            LogEntry(step=step - back, loss=1 - accuracy, learning_rate=learning_rate)
            for back in (20, 0)
        ),
    )


def request_of(storage: Path, trials: int, evaluations: int) -> Request:
    """Return the request of the sweep; trackers are off: they are processes of their own."""
    file = storage / "curve.py"
    file.write_text(SPACE.replace("EVALUATIONS", str(evaluations)))
    config = SweepConfig(num_trials=trials, storage=str(storage), trackers=())
    return make_request(str(file), config)


def begin(storage: Path, request: Request, sweep: str) -> SweepFolder:
    """Make the sweep's folder as the sweep process does."""
    folder = SweepFolder(storage / sweep)
    folder.logs.mkdir(parents=True)
    write_record(folder, make_record(request, sweep))
    copy_code(request.loaded, folder.code)
    return folder


def finished_log(trials: int, evaluations: int) -> Iterator[ev.Event]:
    """Yield the events of a sweep that ran every trial to its end."""
    draw, now = random.Random(0), 1_790_000_000.0
    yield ev.SweepStarted(sweep="curve", devices="CPU", time=now)
    for number in range(1, trials + 1):
        name, rate = f"t{number:03}", 10 ** draw.uniform(-6, -2)
        params = {
            "learning_rate": rate,
            "weight_decay": draw.uniform(0, 0.3),
            "warmup_steps": draw.uniform(0, 0.2),
        }
        yield ev.TrialSuggested(trial=name, params=params, origin="searcher", seed=0, time=now)
        yield ev.JobStarted(trial=name, attempt=1, group=number % AT_ONCE, devices=1, time=now)
        for evaluation in range(1, evaluations + 1):
            now += 1.0
            yield ev.Reported(report=report(name, evaluation, evaluations, rate), time=now)
            decided: dict[str, Any] = {"save_best": False, "save_state": False}
            yield ev.Decided(
                trial=name, number=evaluation, decision="continue", time=now, **decided
            )
        ended: dict[str, Any] = {"train_s": 10.0 * evaluations, "device_s": 12.0 * evaluations}
        yield ev.AttemptEnded(trial=name, attempt=1, outcome="done", time=now, **ended)
        yield ev.TrialEnded(trial=name, status="finished", time=now)
    yield ev.SweepEnded(status="finished", time=now)


def timed_command(storage: Path, *words: str) -> dict[str, float]:
    """Run a verb; return its seconds of wall and CPU time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sweeps", *words, "--storage", str(storage)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - start, "cpu_s": cpu_s}


def measure_log(storage: Path, trials: int, evaluations: int) -> dict[str, Any]:
    """Time what reads a finished sweep's log."""
    folder = begin(storage, request_of(storage, trials, evaluations), "curve-20261128-0000-aaaa")
    log, batch = EventLog(folder.events_file, ()), []
    for event in finished_log(trials, evaluations):
        batch.append(event)
        if len(batch) == 1000 or isinstance(event, ev.SweepEnded):
            log.append(*batch)
            batch = []
    log.close()
    found: dict[str, Any] = {
        "trials": trials,
        "reports": trials * evaluations,
        "log_mb": folder.events_file.stat().st_size / 1e6,
        "results": timed_command(storage, "results", folder.id),
        "results --json": timed_command(storage, "results", folder.id, "--json"),
        "report": timed_command(storage, "report", folder.id),
        "list --sweeps": timed_command(storage, "list", "--sweeps"),
        "resume, nothing to do": timed_command(storage, "resume", folder.id),
    }
    found["resume with more trials, s"] = resume_steps(folder, trials + 1, storage)
    return found


def resume_steps(folder: SweepFolder, trials: int, storage: Path) -> dict[str, float]:
    """Time what a resume does between its imports and its first new trial, but for Ray."""
    steps: dict[str, float] = {}
    start = time.process_time()

    def took(what: str) -> None:
        nonlocal start
        steps[what] = time.process_time() - start
        start = time.process_time()

    request = make_resumption(folder, Changes(num_trials=trials), storage=str(storage))
    took("request")
    history = History(*read_record(folder).judged_by)
    log = EventLog(folder.events_file, [history.apply])
    fold(folder.events_file, history)
    took("history")
    control, study = controlled(request, folder, log, history)
    took("study copy and scheduler")
    log.append(ev.SweepStarted(sweep=folder.id, devices="CPU"))
    control.catch_up()
    took("catching up")
    assert control.next_trial() not in (None, "wait")
    took("first new trial")
    log.close()
    del study
    steps["all"] = sum(steps.values())
    return steps


def controlled(
    request: Request, folder: SweepFolder, log: EventLog, history: History
) -> tuple[Control, StudyCopy]:
    """Return the control of a sweep, and its copy for optuna-dashboard, as `driver/sweep.py`."""
    searcher = make_searcher(
        request.space, request.config, root=request.loaded.root, warm_start=(), note=lambda _: None
    )
    where = request.loaded.where
    suggestions = Suggestions(request.space, request.config, history, searcher, where, ())
    study = StudyCopy(folder.study, folder.id, request.space, history)
    control = Control(
        request.space,
        request.config,
        folder,
        log,
        history,
        request.new_scheduler(),
        suggestions,
        where,
        lambda _: None,
    )
    return control, study


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
            start = time.perf_counter()
            answer = control.decide(event)
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
        "new_trial_ms": {at: around(suggestions, at) for at in (100, trials - WINDOW)},
    }


def around(times: dict[int, list[float]], at: int) -> float:
    """Return the median in ms over the trials around one."""
    near = [t for trial, each in times.items() if abs(trial - at) <= WINDOW for t in each]
    return statistics.median(near) * 1000


def measure_proposals(storage: Path) -> dict[int, float]:
    """Return the CPU time in ms of the params of a new trial, by the trials before it."""
    found: dict[int, float] = {}
    for trials in (100, 1_000, 10_000):
        request = request_of(storage, trials, 1)
        history = History("eval_accuracy", "max")
        for event in finished_log(trials, 1):
            history.apply(event)
        searcher = make_searcher(
            request.space, request.config, root=storage, warm_start=(), note=lambda _: None
        )
        searcher.propose(history)  # later ones keep what this one has made of ended trials
        times = []
        for _ in range(5):
            start = time.process_time()
            searcher.propose(history)
            times.append(time.process_time() - start)
        found[trials] = statistics.median(times) * 1000
    return found


async def measure_exchange(storage: Path, groups: int) -> dict[str, float]:
    """Return the CPU time in ms of a report with its decision, and of a word of steps."""
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


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", default=["log", "decisions"])
    parser.add_argument("--log-trials", type=int, default=10_000)
    parser.add_argument("--log-reports", type=int, default=8)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--reports", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ray", "optuna")},
    }
    with tempfile.TemporaryDirectory(prefix="sweeps-scale-") as folder:
        storage = Path(folder)
        if "log" in given.part:
            found["log"] = measure_log(storage, given.log_trials, given.log_reports)
        if "decisions" in given.part:
            found["decisions"] = measure_decisions(storage, given.trials, given.reports)
        if "proposals" in given.part:
            found["proposal_cpu_ms"] = measure_proposals(storage)
        if "exchange" in given.part:
            found["exchange_cpu"] = {
                groups: asyncio.run(measure_exchange(storage, groups))
                for groups in (16, 100, 1_000)
            }
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
