"""`results --json`: exactly the promised keys, strict JSON, and what the numbers mean."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.results import Results, read_results
from sweeps.config import SweepConfig
from sweeps.records import events as ev
from sweeps.records.checkpoints import MARKER
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.report import Mode, Report
from tests.written_record import put_record

SWEEP = "bert_yelp-20261122-0741-k3f9"
KEYS = ["sweep", "space", "metric", "mode", "status", "best", "answer", "trials"]
BEST_KEYS = [
    *("trial", "value", "epoch", "step", "progress", "params", "checkpoint", "checkpoint_gone"),
]
TRIAL_KEYS = [
    *("trial", "status", "failure", "reason", "phase", "traceback"),
    *("value", "epoch", "step", "progress", "params"),
    *("reports", "train_s", "device_s", "checkpoint", "checkpoint_gone"),
]


class Sweep:
    """A sweep's folder, written as a sweep process writes it."""

    def __init__(
        self,
        storage: Path,
        metric: str = "eval_accuracy",
        mode: Mode = "max",
        **config: Any,
    ) -> None:
        self.metric = metric
        self.folder = SweepFolder(storage / SWEEP)
        self.folder.path.mkdir(parents=True)
        put_record(self.folder, "bert_yelp", metric=metric, mode=mode, config=SweepConfig(**config))
        self.log = EventLog(self.folder.events_file, ())
        self.log.append(ev.SweepStarted(sweep=SWEEP))

    def trial(
        self,
        trial: str,
        *values: float,
        origin: ev.Origin = "searcher",
        of: str | None = None,
        **params: Any,
    ):
        params = params or {"learning_rate": 3e-5}
        self.log.append(
            ev.TrialSuggested(trial=trial, params=params, origin=origin, of=of, seed=0),
            ev.JobStarted(trial=trial, attempt=1, group=1, devices=2),
        )
        for number, value in enumerate(values, 1):
            self.report(trial, number, value)

    def report(self, trial: str, number: int, value: float, **changes: Any) -> None:
        whole: dict[str, Any] = {
            "trial": trial,
            "number": number,
            "step": number * 20,
            "max_steps": 80,
            "epoch": number / 2,
            "metrics": {self.metric: value},
            "eval_rows": 100,
            "train_s": number * 4.0,
        }
        self.log.append(ev.Reported(report=Report(**whole | changes)))

    def save(self, trial: str, number: int) -> None:
        self.log.append(
            ev.CheckpointSaved(
                trial=trial,
                number=number,
                kind="best",
                path=f"checkpoints/{trial}/best-{number * 20}",
                sha256="0" * 64,
            )
        )

    def end(self, trial: str, status: ev.TrialEnd, failure: ev.FailureKind | None = None) -> None:
        self.attempt(trial, failure or "done")
        self.log.append(ev.TrialEnded(trial=trial, status=status, failure=failure))

    def attempt(self, trial: str, outcome: Any, number: int = 1) -> None:
        ended = {"trial": trial, "attempt": number, "outcome": outcome}
        self.log.append(ev.AttemptEnded(**ended, train_s=8.0, device_s=30.0))

    @property
    def results(self) -> Results:
        return read_results(self.folder)

    @property
    def json(self) -> dict[str, Any]:
        """What `results --json` prints, read by a parser that knows no NaN."""

        def no_such_number(text: str) -> None:
            raise AssertionError(f"{text} is not JSON")

        printed = json.dumps(self.results.in_json(), indent=2)
        found: dict[str, Any] = json.loads(printed, parse_constant=no_such_number)
        return found


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    sweep = Sweep(tmp_path)
    yield sweep
    sweep.log.close()


def test_the_results_have_exactly_the_promised_keys_and_the_best_report_s_numbers(sweep: Sweep):
    sweep.trial("t001", 0.5, origin="first_params")
    sweep.end("t001", "stopped_early")
    sweep.trial("t002", 0.6, 0.9, 0.7, learning_rate=9e-5, total_train_batch_size=32)
    sweep.save("t002", 2)
    sweep.end("t002", "finished")
    sweep.trial("t003", 0.4)
    sweep.end("t003", "failed", "out_of_memory")
    sweep.log.append(ev.SweepEnded(status="finished"))
    sweep.log.close()
    checkpoint = str(sweep.folder.path / "checkpoints/t002/best-40")
    best = {
        "trial": "t002",
        "value": 0.9,
        "epoch": 1.0,
        "step": 40,
        "progress": 0.5,
        "params": {"learning_rate": 9e-5, "total_train_batch_size": 32},
        "checkpoint": checkpoint,
        "checkpoint_gone": False,
    }
    cost = {"train_s": 8.0, "device_s": 30.0, "reason": None, "phase": None, "traceback": None}
    other = {"epoch": 0.5, "step": 20, "progress": 0.25, "params": {"learning_rate": 3e-5}}
    other |= {"reports": 1, "checkpoint": None, "checkpoint_gone": False}
    Path(checkpoint).mkdir(parents=True)
    Path(checkpoint, MARKER).touch()
    found = sweep.json
    assert found["answer"] == sweep.results.answer.in_json()
    assert found == {
        "sweep": SWEEP,
        "space": "bert_yelp",
        "metric": "eval_accuracy",
        "mode": "max",
        "status": "finished",
        "best": best,
        "answer": found["answer"],
        "trials": [
            best | cost | {"status": "finished", "failure": None, "reports": 3},
            other
            | cost
            | {"trial": "t001", "value": 0.5, "status": "stopped_early", "failure": None},
            other
            | cost
            | {"trial": "t003", "value": 0.4, "status": "failed", "failure": "out_of_memory"}
            | {"reason": "the trial ended without an evaluation"},
        ],
    }
    Path(checkpoint, MARKER).unlink()
    assert [trial["checkpoint_gone"] for trial in sweep.json["trials"]] == [True, False, False]
    assert list(found) == KEYS
    assert list(found["best"]) == BEST_KEYS
    assert [list(trial) for trial in found["trials"]] == [TRIAL_KEYS] * 3


def test_params_that_are_repeated_are_judged_by_their_mean_which_stands_beside_each_trial(
    tmp_path: Path,
):
    sweep = Sweep(tmp_path, repeats=2)
    sweep.trial("t001", 0.8, origin="first_params")
    assert sweep.json["best"]["mean"] == 0.8
    assert sweep.json["trials"][0]["mean_error"] is None
    sweep.trial("t002", 0.6, origin="repeat", of="t001")
    sweep.trial("t003", 0.9)
    sweep.trial("t004", 0.3, origin="repeat", of="t003")
    found = sweep.json
    more = ["repeat_of", "mean", "mean_error"]
    assert list(found["best"]) == [*BEST_KEYS, *more]
    assert [list(trial) for trial in found["trials"]] == [[*TRIAL_KEYS, *more]] * 4
    assert [
        (trial["trial"], trial["repeat_of"], *(round(trial[key], 6) for key in more[1:]))
        for trial in found["trials"]
    ] == [
        ("t001", None, 0.7, 0.1),
        ("t002", "t001", 0.7, 0.1),
        ("t003", None, 0.6, 0.3),
        ("t004", "t003", 0.6, 0.3),
    ]
    assert (found["best"]["trial"], found["best"]["value"]) == ("t001", 0.8)
    sweep.report("t004", 2, 0.7)
    assert sweep.json["best"]["trial"] == "t003"
    sweep.log.close()


def test_a_sweep_that_has_just_begun_has_no_best_and_no_trials(sweep: Sweep):
    found = sweep.json
    assert (found["status"], found["best"], found["trials"]) == ("running", None, [])


def test_a_trial_without_a_report_has_nulls_and_stands_last(sweep: Sweep):
    sweep.trial("t001")
    sweep.trial("t002", 0.1)
    first, last = sweep.json["trials"]
    assert (first["trial"], last["trial"]) == ("t002", "t001")
    assert list(last) == TRIAL_KEYS
    nulls = {
        "failure",
        "reason",
        "phase",
        "traceback",
        "value",
        "epoch",
        "step",
        "progress",
        "checkpoint",
    }
    assert {key for key, value in last.items() if value is None} == nulls
    assert (last["status"], last["reports"]) == ("running", 0)
    assert last["train_s"] == 0
    assert 0 <= last["device_s"] < 60, "since the job began"


def test_results_while_it_runs_and_after_it_was_cut_off(sweep: Sweep):
    sweep.trial("t001", 0.5)
    assert sweep.json["status"] == "running"
    assert sweep.json["trials"][0]["status"] == "running"
    sweep.log.close()
    found = sweep.json
    (trial,) = found["trials"]
    assert (found["status"], trial["status"], trial["train_s"]) == ("interrupted", "waiting", 4.0)
    assert trial["device_s"] == found["answer"]["device_s"] > 0, "up to the newest event"
    assert found["best"]["trial"] == "t001"


def test_seconds_are_summed_over_all_attempts(sweep: Sweep):
    sweep.trial("t001", 0.5)
    sweep.attempt("t001", "interrupted")
    sweep.log.append(ev.JobStarted(trial="t001", attempt=2, group=1, devices=2))
    assert sweep.json["trials"][0]["train_s"] == 8.0, "its report was the first attempt's"
    sweep.report("t001", 2, 0.6, attempt=2)
    assert sweep.json["trials"][0]["train_s"] == 16.0
    sweep.attempt("t001", "done", number=2)
    (trial,) = sweep.json["trials"]
    assert (trial["train_s"], trial["device_s"]) == (16.0, 60.0)


def test_equal_trials_stand_in_the_order_of_their_numbers(sweep: Sweep):
    for trial in ("t001", "t002", "t003"):
        sweep.trial(trial, 0.5)
    assert [trial["trial"] for trial in sweep.json["trials"]] == ["t001", "t002", "t003"]
    assert sweep.json["best"]["trial"] == "t001"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_null(sweep: Sweep, value: float):
    sweep.trial("t001", value)
    (trial,) = sweep.json["trials"]
    assert (trial["value"], trial["step"], trial["reports"]) == (None, None, 1)
    assert sweep.json["best"] is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_param_that_is_not_finite_is_null(sweep: Sweep, value: float):
    sweep.trial("t001", 0.5, learning_rate=3e-5, max_grad_norm=value)
    assert sweep.json["trials"][0]["params"] == {"learning_rate": 3e-5, "max_grad_norm": None}
    assert sweep.json["best"]["params"]["max_grad_norm"] is None


def test_an_epoch_that_is_not_finite_is_null(sweep: Sweep):
    sweep.trial("t001")
    sweep.report("t001", 1, 0.5, epoch=math.nan)
    assert sweep.json["best"]["epoch"] is None


def test_a_torn_last_line_is_not_there_yet(sweep: Sweep):
    sweep.trial("t001", 0.5)
    sweep.log.close()
    whole = sweep.json
    with sweep.folder.events_file.open("a") as log:
        log.write('{"event": "Reported", "time": 1.0, "rep')
    assert sweep.json == whole
