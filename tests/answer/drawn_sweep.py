"""A sweep on disk whose events have closed-form times: what its page shows can be computed by hand.

Trials run one after another on group 1, which has two devices. An evaluation comes every 10 s, a
gap between two trials takes 2 s, and the first job starts after 20 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.answer.results import Results, read_results
from sweeps.config import SweepConfig
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.space.domain_data import DomainData
from tests.written_record import put_record

EVALUATIONS = 4
DEVICES = 2
START = 1_790_000_000.0
TUNED = {
    "rate": [DomainData(kind="float", lower=1e-5, upper=1e-3, log=True)],
    "optim": [DomainData(kind="choice", choices=["sgd", "adamw"])],
    "momentum": [DomainData(kind="float", lower=0.0, upper=1.0, condition={"optim": "sgd"})],
    "layers": [DomainData(kind="int", lower=1, upper=5)],
}
PARAMS = {"rate": 1e-4, "optim": "adamw", "layers": 2}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One trial: its evaluations, and how it ends."""

    curve: Sequence[float]
    status: str | None = None
    """None: it ends as its number of evaluations says; `running`: it does not end."""
    params: dict[str, Any] = field(default_factory=dict)
    """What differs from `PARAMS`."""
    failures: Sequence[str] = ()
    """Messages of attempts that failed after 10 s each, before the evaluations."""
    of: str | None = None


def drawn_sweep(
    storage: Path,
    *trials: Drawn,
    sweep: str = "curves-20261123-0741-k3f9",
    more: Sequence[ev.Event] = (),
    ended: bool = True,
    config: SweepConfig | None = None,
    **record: Any,
) -> Results:
    """Write a sweep into a storage folder, and return what it says."""
    folder = SweepFolder(storage / sweep)
    folder.logs.mkdir(parents=True)
    config = config or SweepConfig(num_trials=max(1, len(trials)), scheduler="fifo")
    fields = {"tuned": TUNED, "first_params": [PARAMS], "evals_per_trial": EVALUATIONS}
    put_record(folder, **{**fields, "config": config, **record})
    log = EventLog(folder.events_file, ())
    log.append(ev.SweepStarted(time=START, sweep=sweep, devices="CPU"))
    events, now = [], START + 20
    for number, drawn in enumerate(trials, start=1):
        now = _trial(events, f"t{number:03}", drawn, now) + 2
    log.append(*events, *more)
    if ended:
        log.append(ev.SweepEnded(time=now + 3, status="finished"))
    log.close()
    return read_results(folder)


def _trial(events: list[ev.Event], trial: str, drawn: Drawn, now: float) -> float:
    """Add the events of a trial; returns when it ends."""
    origin: Any = "repeat" if drawn.of else "first_params" if trial == "t001" else "searcher"
    params = {**PARAMS, **drawn.params}
    events.append(
        ev.TrialSuggested(time=now, trial=trial, params=params, origin=origin, of=drawn.of, seed=0)
    )

    def start(attempt: int) -> None:
        events.append(
            ev.JobStarted(time=now, trial=trial, attempt=attempt, group=1, devices=DEVICES)
        )

    def end(attempt: int, seconds: float, outcome: Any, message: str | None = None) -> None:
        events.append(
            ev.AttemptEnded(
                time=now,
                trial=trial,
                attempt=attempt,
                outcome=outcome,
                message=message,
                train_s=seconds,
                device_s=seconds * DEVICES,
            )
        )

    for attempt, message in enumerate(drawn.failures, start=1):
        start(attempt)
        now += 10
        end(attempt, 10, "error", message)
    status: Any = drawn.status
    if status is None:
        status = "finished" if len(drawn.curve) == EVALUATIONS else "stopped_early"
    last = len(drawn.failures) + 1
    if drawn.curve:
        start(last)
    for number, value in enumerate(drawn.curve, start=1):
        now += 10
        report = Report(
            trial=trial,
            number=number,
            attempt=last,
            step=number,
            max_steps=EVALUATIONS,
            epoch=number,
            metrics={"eval_score": value},
            train_s=10.0 * number,
        )
        events.append(ev.Reported(time=now, report=report))
    if status == "running":
        return now
    if drawn.curve:
        end(last, 10.0 * len(drawn.curve), "done")
    failure: Any = "error" if status == "failed" else None
    events.append(ev.TrialEnded(time=now, trial=trial, status=status, failure=failure))
    return now
