"""A sweep written by hand: `sweep.json`, an event log, a checkpoint; no cluster, no training."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps import TextClassification
from sweeps.config import SweepConfig, default_tracking_uri
from sweeps.records import events as ev
from sweeps.records.checkpoints import finish_checkpoint
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import write_record
from sweeps.report import LogEntry, Report
from sweeps.space.domain_data import DomainData
from sweeps.trackers.follow import Feed, follow
from sweeps.trackers.known import TRACKERS
from sweeps.trackers.mlflow.sqlite_store import make_store
from sweeps.trackers.process import TrackerProcess, shortfall
from sweeps.trackers.state import log_file
from tests.written_record import put_record

START = 1_790_000_000.0
MAX_STEPS = 80


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until another process has done its part."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


class WrittenSweep:
    """Plays the sweep process: appends events, starts trackers as it would."""

    def __init__(self, storage: Path, sweep: str, uri: str | None = None, **record: Any) -> None:
        self.storage = storage
        self.folder = SweepFolder(storage / sweep)
        self.folder.logs.mkdir(parents=True)
        self.uri = uri or default_tracking_uri(storage)
        self.record = put_record(
            self.folder,
            **{
                "space": "bert_yelp",
                "metric": "eval_accuracy",
                "builder": "TextClassification(model='m')",
                "fields": {"model": "google-bert/bert-base-cased", "dataset_config": None},
                "pipeline": TextClassification.pipeline,
                "tuned": {
                    "learning_rate": [DomainData(kind="float", lower=1e-5, upper=1e-4, log=True)],
                    "total_train_batch_size": [DomainData(kind="choice", choices=[16, 32])],
                },
                "fixed": {"weight_decay": 0.01, "seed": 17},
                "first_params": [{"learning_rate": 3e-5, "total_train_batch_size": 32}],
                "config": SweepConfig(num_trials=4, tracking_uri=uri),
                "tracking_uri": self.uri,
                "artifacts": str(storage / "mlartifacts"),
                "command": "python -m sweeps run bert_yelp",
                "versions": {
                    "transformers": "5.23.0",
                    "mlflow": "3.17.2",
                    "torch": "2.13.0+cpu",
                },
            }
            | record,
        )
        self.said: list[str] = []
        """What trackers' processes had to say."""
        self.now = START
        self.log = EventLog(self.folder.events_file, ())
        self.put(ev.SweepStarted, sweep=sweep)

    def put(self, kind: type[ev.Event], /, **fields: Any) -> None:
        """Append an event, ten seconds after the one before."""
        self.now += 10
        self.log.append(kind(time=self.now, **fields))

    def begin(self, trial: str, learning_rate: float = 3e-5) -> None:
        params = {"learning_rate": learning_rate, "total_train_batch_size": 32}
        origin = "first_params" if trial == "t001" else "searcher"
        self.put(ev.TrialSuggested, trial=trial, params=params, origin=origin, seed=17)
        self.job(trial)

    def job(self, trial: str, attempt: int = 1) -> None:
        self.put(ev.JobStarted, trial=trial, attempt=attempt, group=0, devices=2)

    def report_only(self, trial: str, number: int, accuracy: float, **fields: Any) -> Report:
        step = number * 20
        return Report(
            **{
                "trial": trial,
                "number": number,
                "step": step,
                "max_steps": MAX_STEPS,
                "epoch": step / 40,
                "metrics": {"eval_accuracy": accuracy, "eval_loss": 1 - accuracy},
                "train_s": 4.0 * number,
                "log_entries": tuple(
                    LogEntry(step=s, loss=2 / s, learning_rate=1e-5 / s) for s in (step - 10, step)
                ),
            }
            | fields
        )

    def report(self, trial: str, number: int, accuracy: float, **fields: Any) -> Report:
        report = self.report_only(trial, number, accuracy, **fields)
        self.put(ev.Reported, report=report)
        return report

    def pause(self, trial: str, number: int) -> None:
        """Let the trial pause at its report, with its state saved."""
        decided = {"trial": trial, "number": number, "save_best": False, "save_state": True}
        self.put(ev.Decided, decision="pause", **decided)
        path = f"checkpoints/{trial}/checkpoint-{number * 20}"
        saved = {"trial": trial, "number": number, "path": path}
        self.put(ev.CheckpointSaved, kind="state", sha256="0", **saved)
        ended = {"trial": trial, "attempt": 1, "train_s": 1.0, "device_s": 1.0}
        self.put(ev.AttemptEnded, outcome="paused", **ended)

    def end(self, trial: str, status: str, failure: str | None = None, **attempt: Any) -> None:
        fields = {"attempt": 1, "outcome": failure or "done", "train_s": 8.0, "device_s": 30.0}
        self.put(ev.AttemptEnded, trial=trial, **(fields | attempt))
        self.put(ev.TrialEnded, trial=trial, status=status, failure=failure)

    def save_best(self, trial: str, number: int, checkpoint: Path) -> Path:
        path = self.folder.checkpoints / trial / f"best-{number}"
        shutil.copytree(checkpoint, path)
        sha256 = finish_checkpoint(path, trial=trial, number=number, step=number * 20)
        self.put(
            ev.CheckpointSaved,
            trial=trial,
            number=number,
            kind="best",
            path=str(path.relative_to(self.folder.path)),
            sha256=sha256,
        )
        return path

    def reopen(self) -> None:
        """Take the sweep up again, as `resume` does."""
        self.log = EventLog(self.folder.events_file, ())
        self.put(ev.SweepStarted, sweep=self.folder.id)

    def move_to(self, uri: str) -> None:
        """Name another store in `sweep.json`."""
        self.uri = uri
        config = dataclasses.replace(self.record.config, tracking_uri=uri)
        self.record = dataclasses.replace(self.record, config=config, tracking_uri=uri)
        write_record(self.folder, self.record)

    def end_sweep(self) -> None:
        self.put(ev.SweepEnded, status="finished")
        self.log.close()

    def write(self, tracker: str = "mlflow") -> str | None:
        """Let a tracker follow the log to its end, here; it must have one or be closed."""
        handler = logging.FileHandler(log_file(self.folder, tracker))
        logging.getLogger("sweeps.trackers").addHandler(handler)
        try:
            code = follow(self.folder, tracker, TRACKERS[tracker])
        finally:
            logging.getLogger("sweeps.trackers").removeHandler(handler)
            handler.close()
        return shortfall(self.folder, tracker, code)

    def feed(self, tracker: str = "mlflow") -> Feed:
        """Return what carries the log to a tracker, here and step by step."""
        return Feed(self.folder, tracker, TRACKERS[tracker])

    def start(self, tracker: str = "mlflow") -> TrackerProcess:
        """Start a tracker as the sweep process does; the log is open."""
        return TrackerProcess(self.folder, tracker, self.said.append)

    def log_of(self, tracker: str = "mlflow") -> str:
        """Return what a tracker has logged."""
        file = log_file(self.folder, tracker)
        return file.read_text() if file.exists() else ""


def four_trials(
    storage: Path, checkpoint: Path, sweep_id: str = "bert_yelp-20261122-0741-k3f9"
) -> WrittenSweep:
    """One finished, one stopped early and best, one failed, one diverged."""
    sweep = WrittenSweep(storage, sweep_id)
    sweep.begin("t001")
    for number in (1, 2, 3, 4):
        sweep.report("t001", number, 0.5 + number / 100)
    sweep.end("t001", "finished")
    sweep.begin("t002", 9e-5)
    sweep.report("t002", 1, 0.7)
    sweep.report("t002", 2, 0.9)
    sweep.save_best("t002", 2, checkpoint)
    sweep.report("t002", 3, 0.8)
    sweep.end("t002", "stopped_early")
    sweep.begin("t003", 5e-5)
    sweep.report("t003", 1, 0.6)
    sweep.end(
        "t003",
        "failed",
        "error",
        message="ValueError: bad rows",
        traceback="Traceback (most recent call last):\n  ...\nValueError: bad rows\n",
    )
    sweep.begin("t004", 1e-5)
    inf = float("inf")
    report = sweep.report("t004", 1, 0.4, metrics={"eval_accuracy": 0.4, "eval_loss": inf})
    why = report.non_finite("eval_accuracy")
    sweep.put(
        ev.Decided,
        trial="t004",
        number=1,
        decision="stop",
        save_best=False,
        save_state=False,
        diverged=why,
    )
    sweep.end("t004", "failed", "diverged")
    sweep.end_sweep()
    return sweep


@pytest.fixture(scope="session")
def ended_sweep() -> Callable[..., WrittenSweep]:
    """Make a sweep of four trials that has ended, and is not in MLflow yet."""
    return four_trials


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of MLflow's that holds nothing; made once, as it takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    make_store(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder that nobody loads."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text('{"architectures": ["Net"]}')
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a classifier of a few thousand parameters."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("checkpoint")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "optimizer.pt").write_bytes(b"only for a resume")
    return folder


@pytest.fixture
def new_sweep(tmp_path: Path, empty_store: Path) -> Iterator[Callable[..., WrittenSweep]]:
    """Make sweeps in one storage folder that has an empty store."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    made = []

    def new(sweep: str = "bert_yelp-20261122-0741-k3f9", **fields: Any) -> WrittenSweep:
        made.append(WrittenSweep(tmp_path, sweep, **fields))
        return made[-1]

    yield new
    for sweep in made:
        sweep.log.close()
