"""Closed-form sweeps for `scale.py`: their reports, their log, and the code that decides.

Nothing is trained, and Ray is not started.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeps.config import SweepConfig
from sweeps.driver.control import Control
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.suggestions import Suggestions
from sweeps.planning.request import Request
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.sweep_record import write_record
from sweeps.report import LogEntry, Report
from sweeps.searchers.make_searcher import make_searcher
from sweeps.searchers.study_copy import StudyCopy
from sweeps.space.code_copy import copy_code

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
"""Number of evaluation rows whose outcomes a report contains."""
AT_ONCE = 16


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
    """Return the request of the sweep, without trackers, since they are separate processes."""
    file = storage / "curve.py"
    file.write_text(SPACE.replace("EVALUATIONS", str(evaluations)))
    config = SweepConfig(num_trials=trials, storage=str(storage), trackers=())
    return make_request(str(file), config)


def begin(storage: Path, request: Request, sweep: str) -> SweepFolder:
    """Create the sweep's folder as the sweep process does."""
    folder = SweepFolder(storage / sweep)
    folder.logs.mkdir(parents=True)
    write_record(folder, make_record(request, sweep))
    copy_code(request.loaded, folder.code)
    return folder


def finished_log(trials: int, evaluations: int) -> Iterator[ev.Event]:
    """Yield the events of a sweep that ran every trial to completion."""
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


def controlled(
    request: Request, folder: SweepFolder, log: EventLog, history: History
) -> tuple[Control, StudyCopy]:
    """Return a sweep's control, and the study for optuna-dashboard, as `driver/sweep.py` does."""
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
