"""MLflow's record of sweeps that are written by hand, on stores of their own.

The tracker runs in this process, but where it is killed, restarted or kept waiting by a server.
"""

from __future__ import annotations

import http.server
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from sweeps.config import SweepConfig, default_tracking_uri
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import MARKER
from sweeps.records.event_log import encode, read_events
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.trackers import follow
from sweeps.trackers.mlflow import register, registered_models, serve, sweep_link
from sweeps.trackers.mlflow.model import Best, _flavors, best_checkpoint
from sweeps.trackers.mlflow.names import color
from sweeps.trackers.mlflow.sqlite_store import follow_move, make_store, on_network_disk
from sweeps.trackers.mlflow.store import check_tracking
from sweeps.trackers.mlflow.view import saved_view
from tests.stored_runs import history, runs_of
from tests.trackers.conftest import Served
from tests.written_record import a_record
from tests.written_sweep import wait_for

pytestmark = pytest.mark.timeout(240)

FOUR_POINTS = [(20, 0.51), (40, 0.52), (60, 0.53), (80, 0.54)]


def offset_of(sweep: Any) -> int:
    """Return how many bytes of the log the tracker has; 0 before it has saved anything."""
    path = sweep.folder.trackers / "mlflow.json"
    return json.loads(path.read_text())["offset"] if path.exists() else 0


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, empty_store: Path, ended_sweep: Any
) -> Any:
    """A sweep written from its first event to its end."""
    storage = tmp_path_factory.mktemp("results")
    shutil.copyfile(empty_store, storage / "mlflow.db")
    sweep = ended_sweep(storage, tiny_bert)
    assert sweep.write() is None, sweep.log_of()
    return sweep


# What stands in MLflow at the end


def test_every_report_stands_at_its_step_with_its_time(whole: Any) -> None:
    run = runs_of(whole)["t001"]
    assert history(whole, run, "eval_accuracy") == FOUR_POINTS
    assert history(whole, run, "progress") == [(20, 0.25), (40, 0.5), (60, 0.75), (80, 1.0)]
    points = MlflowClient(whole.uri).get_metric_history(run.info.run_id, "eval_loss")
    reported = [
        round(event.time * 1000)
        for event, _ in read_events(whole.folder.events_file)
        if isinstance(event, ev.Reported) and event.report.trial == "t001"
    ]
    assert sorted(point.timestamp for point in points) == reported


def test_the_training_log_stands_at_its_own_steps_between_the_reports(whole: Any) -> None:
    run = runs_of(whole)["t001"]
    steps = [10, 20, 30, 40, 50, 60, 70, 80]
    assert history(whole, run, "loss") == [(step, 2 / step) for step in steps]
    assert history(whole, run, "learning_rate") == [(step, 1e-5 / step) for step in steps]
    points = MlflowClient(whole.uri).get_metric_history(run.info.run_id, "loss")
    times = [point.timestamp for point in sorted(points, key=lambda p: p.step)]
    assert [later - sooner for sooner, later in pairwise(times)] == [5000] * 7


def test_the_data_set_is_an_input_of_sweep_and_trials_by_its_use(new_sweep: Any) -> None:
    fields = {"dataset": "/data/reviews", "dataset_config": None, "train_rows": 5000}
    sweep = new_sweep(fields=fields)
    sweep.begin("t001")
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None, sweep.log_of()
    runs = runs_of(sweep)
    for run in (runs[sweep.folder.id], runs["t001"]):
        inputs = {
            each.tags[0].value: each.dataset
            for each in run.inputs.dataset_inputs
            if each.tags[0].key == "mlflow.data.context"
        }
        assert {use: data.name for use, data in inputs.items()} == {
            "training": "reviews",
            "evaluation": "reviews",
        }
        assert json.loads(inputs["training"].source) == {"uri": "/data/reviews"}
        assert json.loads(inputs["training"].profile) == {"rows": 5000}
        assert inputs["training"].digest != inputs["evaluation"].digest


def test_the_best_metric_rises_only_where_it_got_better(whole: Any) -> None:
    runs = runs_of(whole)
    assert history(whole, runs["t002"], "best_eval_accuracy") == [(20, 0.7), (40, 0.9)]
    assert runs["t002"].data.metrics["eval_accuracy"] == 0.8
    assert runs[whole.folder.id].data.metrics["best_eval_accuracy"] == 0.9


def test_a_value_that_is_not_finite_is_left_out_and_flagged(whole: Any) -> None:
    run = runs_of(whole)["t004"]
    assert history(whole, run, "eval_loss") == []
    assert history(whole, run, "nonfinite") == [(20, 1.0)]
    assert run.data.tags["nonfinite"] == "true"


def test_trials_are_nested_in_their_sweep_with_params_and_fixed_arguments(whole: Any) -> None:
    runs = runs_of(whole)
    parent = runs.pop(whole.folder.id)
    assert sorted(runs) == ["t001", "t002", "t003", "t004"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    common = {
        "model": "google-bert/bert-base-cased",
        "weight_decay": "0.01",
        "seed": "17",
        "workers_per_trial": "1",
    }
    assert runs["t002"].data.params == common | {
        "learning_rate": "9e-05",
        "total_train_batch_size": "32",
    }
    assert parent.data.params == common | {
        "tuned.learning_rate": "loguniform(1e-05, 0.0001)",
        "tuned.total_train_batch_size": "choice([16, 32])",
    }


def test_statuses_say_how_each_trial_ended(whole: Any) -> None:
    seen = {
        name: (run.info.status, run.data.tags["sweep.status"], run.data.tags.get("sweep.failure"))
        for name, run in runs_of(whole).items()
    }
    assert seen == {
        whole.folder.id: ("FINISHED", "finished", None),
        "t001": ("FINISHED", "finished", None),
        "t002": ("FINISHED", "stopped_early", None),
        "t003": ("FAILED", "failed", "error"),
        "t004": ("FAILED", "failed", "diverged"),
    }


def test_runs_carry_who_what_and_which_commit(whole: Any) -> None:
    tags = runs_of(whole)["t001"].data.tags
    assert {key: value for key, value in tags.items() if key not in ("mlflow.parentRunId",)} == {
        "mlflow.runName": "t001",
        "mlflow.runColor": color("t001"),
        "mlflow.user": "ada",
        "mlflow.source.name": "python -m sweeps run bert_yelp",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "c0ffee",
        "mlflow.source.git.branch": "main",
        "sweep.git.dirty": "false",
        "sweep.id": whole.folder.id,
        "sweep.key": f"{whole.folder.id}/t001",
        "sweep.space": "bert_yelp",
        "sweep.trial": "t001",
        "sweep.best": "false",
        "sweep.rank": "00003",
        "sweep.origin": "first_params",
        "sweep.status": "finished",
    }


def test_runs_begin_and_end_when_the_trials_did(whole: Any) -> None:
    events = [event for event, _ in read_events(whole.folder.events_file)]
    began = next(e.time for e in events if isinstance(e, ev.JobStarted) and e.trial == "t002")
    ended = next(e.time for e in events if isinstance(e, ev.TrialEnded) and e.trial == "t002")
    info = runs_of(whole)["t002"].info
    assert (info.start_time, info.end_time) == (began * 1000, ended * 1000)


def test_a_failed_trial_has_its_cause_as_tag_and_its_traceback_as_file(whole: Any) -> None:
    runs, client = runs_of(whole), MlflowClient(whole.uri)
    assert runs["t003"].data.tags["sweep.error"] == "ValueError: bad rows"
    assert runs["t004"].data.tags["sweep.error"] == "eval_loss is inf"
    name = "traceback-attempt1.txt"
    path = Path(client.download_artifacts(runs["t003"].info.run_id, name))
    assert path.read_text().endswith("ValueError: bad rows\n")


def test_the_note_of_the_sweep_is_its_answer(whole: Any) -> None:
    assert runs_of(whole)[whole.folder.id].data.tags["mlflow.note.content"] == (
        "**Best trial: t002** with `eval_accuracy` **0.9** (higher is better) at step 40 of 80, "
        "epoch 1.\n"
        "\n"
        "0.36 better than the first params (t001: 0.54).\n"
        "\n"
        "It is unknown which other params are as good: nothing is known of what each row adds to"
        " eval_accuracy.\n"
        "\n"
        "4 trials: 1 finished, 1 stopped early, 2 failed (diverged 1, error 1). "
        "120 device-seconds.\n"
        "\n"
        "| tuned | t002 | domain |\n"
        "| --- | --- | --- |\n"
        "| `learning_rate` | 9e-05 | `loguniform(1e-05, 0.0001)` |\n"
        "| `total_train_batch_size` | 32 | `choice([16, 32])` |"
    )


def test_sweep_json_is_a_file_of_the_sweep_run(whole: Any) -> None:
    run = runs_of(whole)[whole.folder.id]
    path = Path(MlflowClient(whole.uri).download_artifacts(run.info.run_id, "sweep.json"))
    assert path.read_text() == whole.folder.record_file.read_text()


def test_a_checkpoint_that_was_fetched_only_in_part_is_no_model(
    new_sweep: Any, tiny_bert: Path
) -> None:
    sweep = new_sweep()
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    saved = sweep.save_best("t001", 1, tiny_bert)
    assert best_checkpoint(sweep.folder, "t001") is not None
    (saved / MARKER).unlink()
    assert best_checkpoint(sweep.folder, "t001") is None


def test_the_best_checkpoint_loads_back_in_every_way(whole: Any, tiny_bert: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    client = MlflowClient(whole.uri)
    [output] = client.get_run(runs_of(whole)["t002"].info.run_id).outputs.model_outputs
    assert output.step == 40
    model = client.get_logged_model(output.model_id)
    assert (model.name, str(model.status)) == (f"{whole.folder.id}-t002-step40", "READY")
    assert {metric.key: metric.value for metric in model.metrics} == {
        "eval_accuracy": 0.9,
        "eval_loss": pytest.approx(0.1),
    }
    mlflow.set_tracking_uri(whole.uri)
    uri = f"models:/{output.model_id}"
    folder = Path(mlflow.artifacts.download_artifacts(uri)) / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(["good bad"], return_tensors="pt")
    want = AutoModelForSequenceClassification.from_pretrained(tiny_bert)(**batch).logits
    assert torch.equal(
        AutoModelForSequenceClassification.from_pretrained(folder)(**batch).logits, want
    )
    pipeline = mlflow.transformers.load_model(uri)
    assert torch.equal(
        pipeline.model(**pipeline.tokenizer(["good bad"], return_tensors="pt")).logits, want
    )
    served = mlflow.pyfunc.load_model(uri)
    answer = served.predict(["good bad"])
    assert answer["score"][0] == pytest.approx(want.softmax(-1).max().item())
    assert (pipeline.task, served.metadata.signature.outputs.input_names()) == (
        *("text-classification", ["label", "score"]),
    )
    assert not (folder / "optimizer.pt").exists()
    needs = (folder.parent / "requirements.txt").read_text().split()
    assert "torch==2.13.0" in needs, "an index has no 2.13.0+cpu"


@pytest.mark.parametrize(
    ("architecture", "loads"), [("BertForSequenceClassification", True), ("MyNet", False)]
)
def test_a_model_of_the_users_own_class_is_logged_without_a_loader(
    architecture: str, loads: bool, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    report = Report(trial="t001", number=1, step=1, max_steps=1, epoch=1, metrics={}, train_s=1.0)
    best = Best(trial="t001", params={}, report=report, time=0.0, checkpoint=tmp_path)
    assert bool(_flavors(best, None, "5.23.0", "3.11")["flavors"]) == loads


def test_a_logged_model_on_this_disk_takes_no_second_copy(whole: Any) -> None:
    weights = whole.folder.checkpoints / "t002" / "best-2" / "model.safetensors"
    [logged] = (whole.storage / "mlartifacts").rglob("model.safetensors")
    assert logged.samefile(weights)


# Kills, interruptions, resumes


def test_a_process_killed_in_mid_log_is_restarted_doubles_nothing_and_loses_nothing(
    new_sweep: Any, tiny_bert: Path
) -> None:
    sweep = new_sweep()
    tracker = sweep.start()
    first = tracker.process.pid
    sweep.begin("t001")
    for n in (1, 2):
        sweep.report("t001", n, 0.5 + n / 100)
    size = sweep.folder.events_file.stat().st_size
    wait_for(lambda: offset_of(sweep) >= size)
    assert os.getsid(first) == first != os.getsid(0), "out of reach of Ctrl-C"
    lines = Path(f"/proc/{first}/smaps_rollup").read_text().splitlines()
    [resident] = [int(line.split()[1]) for line in lines if line.startswith("Rss:")]
    assert resident < 180 * 1024, f"{resident / 1024:.0f} MB"  # 146 with mlflow 3.17.2
    for n in (3, 4):
        sweep.report("t001", n, 0.5 + n / 100)
    os.kill(first, signal.SIGKILL)  # it may have taken none, or some, of the last two
    sweep.end("t001", "finished")
    sweep.save_best("t001", 4, tiny_bert)
    sweep.begin("t002")
    sweep.report("t002", 1, 0.51)
    sweep.end("t002", "finished")
    sweep.end_sweep()
    assert tracker.finish(120) is None, sweep.log_of()
    assert tracker.process.pid != first
    shutil.rmtree(sweep.folder.trackers)  # all is found again, nothing made anew
    assert sweep.write() is None
    runs = runs_of(sweep)
    assert len(runs) == 3
    assert history(sweep, runs["t001"], "eval_accuracy") == FOUR_POINTS
    assert history(sweep, runs["t002"], "eval_accuracy") == FOUR_POINTS[:1]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    client = MlflowClient(sweep.uri)
    assert len(client.search_logged_models([runs["t001"].info.experiment_id])) == 1
    assert len(client.get_run(runs["t001"].info.run_id).outputs.model_outputs) == 1


def test_a_torn_last_line_waits_for_its_end(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.begin("t001")
    feed = sweep.feed()
    assert feed.advance()
    sweep.now += 10
    report = sweep.report_only("t001", 1, 0.5)
    line = encode(ev.Reported(time=sweep.now, report=report)).encode() + b"\n"
    with sweep.folder.events_file.open("ab", buffering=0) as log:
        log.write(line[:100])
        assert not feed.advance()
        log.write(line[100:])
    assert feed.advance()
    assert offset_of(sweep) == sweep.folder.events_file.stat().st_size
    assert history(sweep, runs_of(sweep)["t001"], "eval_accuracy") == [(20, 0.5)]


def test_an_interrupted_sweep_is_killed_and_its_resume_goes_on_in_the_same_runs(
    new_sweep: Any,
) -> None:
    sweep = new_sweep()
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.end("t001", "stopped_early")
    sweep.begin("t002")
    sweep.report("t002", 1, 0.6)
    sweep.log.close()  # what a killed sweep process leaves
    assert sweep.write() is None
    before = runs_of(sweep)
    words = {n: (r.info.status, r.data.tags["sweep.status"]) for n, r in before.items()}
    assert words == {
        sweep.folder.id: ("KILLED", "interrupted"),
        "t001": ("FINISHED", "stopped_early"),
        "t002": ("KILLED", "waiting"),
    }
    assert before["t002"].info.end_time == sweep.now * 1000
    note = before[sweep.folder.id].data.tags["mlflow.note.content"]
    assert note.startswith("The sweep was interrupted; so far:\n\n**Best trial: t002**")

    sweep.reopen()
    sweep.job("t002", attempt=2)
    assert sweep.feed().advance()
    assert runs_of(sweep)["t002"].info.status == "RUNNING"
    assert runs_of(sweep)[sweep.folder.id].info.status == "RUNNING"
    sweep.report("t002", 2, 0.7)
    sweep.end("t002", "finished", attempt=2)
    sweep.end_sweep()
    assert sweep.write() is None
    after = runs_of(sweep)
    assert {n: r.info.run_id for n, r in after.items()} == {
        n: r.info.run_id for n, r in before.items()
    }
    assert {r.info.status for r in after.values()} == {"FINISHED"}
    assert history(sweep, after["t002"], "eval_accuracy") == [(20, 0.6), (40, 0.7)]


def test_a_store_that_lost_the_sweep_gets_it_again(new_sweep: Any, empty_store: Path) -> None:
    sweep = new_sweep()
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None
    store = sweep.storage / "mlflow.db"
    with closing(sqlite3.connect(empty_store)) as empty, closing(sqlite3.connect(store)) as lost:
        empty.backup(lost)
    assert sweep.write() is None
    assert "writing it again from the event log" in sweep.log_of()
    store = sqlite3.connect(sweep.storage / "mlflow.db")
    assert store.execute("select count(*) from runs").fetchone() == (2,)
    assert store.execute("select value from metrics where key = 'eval_accuracy'").fetchall() == [
        (0.5,)
    ]


def places_in(store: Path) -> list[str]:
    """Return where a store says that the files of an experiment, a run or a model are."""
    tables = {"experiments": "artifact_location", "runs": "artifact_uri"}
    tables |= {"logged_models": "artifact_location", "model_versions": "storage_location"}
    with closing(sqlite3.connect(store)) as opened:
        return [
            place
            for table, column in tables.items()
            for (place,) in opened.execute(f"select {column} from {table}")
            if place is not None and place.startswith("file:")
        ]


def moved(sweep: Any, storage: Path) -> Any:
    """Move the storage folder of a sweep that is not being run."""
    sweep.storage.rename(storage)
    sweep.storage, sweep.folder = storage, SweepFolder(storage / sweep.folder.id)
    sweep.uri = default_tracking_uri(storage)
    return sweep


def test_the_files_of_a_sweep_that_goes_on_in_a_moved_folder_stay_beside_its_store(
    new_sweep: Any, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sweep = new_sweep()
    old = sweep.storage
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.end("t001", "failed", "error", message="ValueError", traceback="ValueError: bad rows")
    sweep.begin("t002")
    sweep.log.close()
    assert sweep.write() is None
    before = runs_of(sweep)
    new = tmp_path_factory.mktemp("moved") / "to # here"
    moved(sweep, new)

    sweep.reopen()
    sweep.report("t002", 1, 0.7)
    sweep.save_best("t002", 1, weights)
    sweep.end("t002", "finished")
    sweep.end_sweep()
    assert sweep.start().finish(60.0) is None  # MLflow's client remembers where a run's files are
    assert not old.exists()
    after = runs_of(sweep)
    assert {n: r.info.run_id for n, r in after.items()} == {
        n: r.info.run_id for n, r in before.items()
    }
    found = places_in(new / "mlflow.db")
    assert len(found) == 5
    assert [p for p in found if not p.startswith(f"{(new / 'mlartifacts').as_uri()}/")] == []
    traceback = MlflowClient(sweep.uri).download_artifacts(
        after["t001"].info.run_id, "traceback-attempt1.txt"
    )
    assert Path(traceback).read_text() == "ValueError: bad rows"
    assert "the artifacts of bert_yelp are now in" in sweep.log_of()


def test_the_registry_of_a_moved_folder_is_still_asked(
    new_sweep: Any, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sweep = new_sweep()
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.save_best("t001", 1, weights)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None
    register(sweep.folder, "t001", 20, "stars")
    for place in ("here", "there"):
        moved(sweep, tmp_path_factory.mktemp("moved") / place)
        assert registered_models(sweep.folder) == ["stars version 1"]
        assert sweep.start().finish(60.0) is None  # catches up, as `ui` has it do


def test_artifacts_that_are_elsewhere_stay_there(empty_store: Path, tmp_path: Path) -> None:
    store = tmp_path / "mlflow.db"
    shutil.copyfile(empty_store, store)
    theirs, other = tmp_path / "other" / "mlartifacts" / "bert_yelp", "s3://ours/mlartifacts/bert"
    theirs.mkdir(parents=True)
    client = MlflowClient(default_tracking_uri(tmp_path))
    client.create_experiment("bert_yelp", theirs.as_uri())
    client.create_experiment("bert", other)
    follow_move(default_tracking_uri(tmp_path), tmp_path)
    assert client.get_experiment_by_name("bert_yelp").artifact_location == theirs.as_uri()
    assert client.get_experiment_by_name("bert").artifact_location == other


# A store in trouble


class Proxy(http.server.ThreadingHTTPServer):
    """Stands before an MLflow server and answers 500 when told to."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.broken = False
        self.swallow_creations = 0
        """So many runs are created behind it, but the answer is 500."""
        super().__init__(("127.0.0.1", 0), _Forward)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Forward(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.broken:
            return self._answer(500, b"out of order")
        headers = {key: value for key, value in self.headers.items() if key != "Host"}
        request = urllib.request.Request(
            self.server.target + self.path, body or None, headers, method=self.command
        )
        try:
            with urllib.request.urlopen(request) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        if self.path.endswith("/runs/create") and self.server.swallow_creations:
            self.server.swallow_creations -= 1
            return self._answer(500, b"it is done, but nobody will know")
        return self._answer(status, content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward

    def log_message(self, *_: object) -> None: ...


@contextmanager
def running(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_server_that_fails_for_a_while_loses_nothing(
    new_sweep: Any, mlflow_server: Served, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RETRY_S", (0.01, 0.02))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy = Proxy(mlflow_server.url)
    with running(proxy), ThreadPoolExecutor() as thread:
        check_tracking(proxy.url)
        sweep = new_sweep(uri=proxy.url)
        proxy.broken = True
        following = thread.submit(sweep.write)
        sweep.begin("t001")
        wait_for(lambda: "mlflow failed; retrying" in sweep.log_of())
        proxy.swallow_creations = 2
        proxy.broken = False
        size = sweep.folder.events_file.stat().st_size
        wait_for(lambda: offset_of(sweep) >= size)
        for n in (1, 2, 3):
            sweep.report("t001", n, 0.5 + n / 100)
        proxy.broken = True
        sweep.report("t001", 4, 0.54)
        sweep.save_best("t001", 4, weights)
        sweep.end("t001", "finished")
        sweep.end_sweep()
        wait_for(lambda: sweep.log_of().count("retrying") >= 2)
        proxy.broken = False
        assert following.result(60) is None, sweep.log_of()
        assert sweep_link(sweep.folder, proxy.url).startswith(f"{proxy.url}/#/experiments/")
        runs = runs_of(sweep)
        assert sorted(runs) == [sweep.folder.id, "t001"]
        assert proxy.swallow_creations == 0
        assert history(sweep, runs["t001"], "eval_accuracy") == FOUR_POINTS
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        [output] = runs["t001"].outputs.model_outputs
        client = MlflowClient(proxy.url)
        assert str(client.get_logged_model(output.model_id).status) == "READY"
        files = client.list_logged_model_artifacts(output.model_id, "model")
        assert "model/model.safetensors" in {file.path for file in files}
    assert not list(sweep.folder.path.rglob(".upload-*"))


def test_a_server_that_stays_down_costs_one_line_and_what_is_missing_can_be_written_later(
    new_sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        uri = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    sweep = new_sweep(uri=uri)
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    monkeypatch.setattr(follow, "GIVE_UP_S", 0.0)
    monkeypatch.setattr(follow, "RETRY_S", (0.01, 0.01))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = str(sweep.write())
    why = (
        f"mlflow is missing part of the sweep: still failing after 0 s of retries: {uri}: API"
        " request to"
    )
    assert said.startswith(why)
    assert said.endswith(
        f" … (see {sweep.folder.logs / 'mlflow.log'}). The sweep itself is not affected. Once"
        f" that is fixed, run: python -m sweeps.trackers.follow mlflow {sweep.folder.path}"
    )
    sweep.move_to(default_tracking_uri(sweep.storage))
    assert sweep.write() is None
    assert runs_of(sweep)["t001"].info.status == "FINISHED"


def test_a_run_deleted_in_mlflow_is_left_alone_and_the_others_go_on(new_sweep: Any) -> None:
    sweep = new_sweep()
    sweep.begin("t001")
    sweep.feed().advance()
    MlflowClient(sweep.uri).delete_run(runs_of(sweep)["t001"].info.run_id)
    sweep.report("t001", 1, 0.5)
    sweep.end("t001", "failed", "error", traceback="Traceback\nValueError: x")
    sweep.begin("t002")
    sweep.report("t002", 1, 0.4)
    sweep.end("t002", "finished")
    sweep.end_sweep()
    assert sweep.write() is None, sweep.log_of()
    assert "the run of t001 was deleted in MLflow and will not be updated again" in sweep.log_of()
    runs = runs_of(sweep)
    assert sorted(runs) == [sweep.folder.id, "t002"]
    assert history(sweep, runs["t002"], "eval_accuracy") == [(20, 0.4)]


def test_an_experiment_deleted_in_mlflow_comes_back_with_the_next_sweep(new_sweep: Any) -> None:
    sweep = new_sweep()
    client = MlflowClient(sweep.uri)
    location = str(sweep.storage / "mlartifacts")
    client.delete_experiment(client.create_experiment("bert_yelp", location))
    sweep.end_sweep()
    assert sweep.write() is None
    assert "restored experiment bert_yelp, which had been deleted in MLflow" in sweep.log_of()
    assert runs_of(sweep)[sweep.folder.id].info.status == "FINISHED"


# The store


def _make_store(uri: str, folder: Path) -> None:
    make_store(uri)
    (folder / f"seen-{(folder / 'mlflow.db').stat().st_ino}").touch()


def test_stores_made_by_several_processes_at_once_beside_a_half_made_one_are_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "mlflow.db.init-1").write_bytes(b"half")  # what a killed process left
    uri = default_tracking_uri(tmp_path)
    fork = multiprocessing.get_context("fork")  # with MLflow imported
    processes = [fork.Process(target=_make_store, args=(uri, tmp_path)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    seen = [path.unlink() or path.name for path in tmp_path.glob("seen-*")]
    assert len(seen) == 1, "all had the same file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        mode = store.execute("pragma journal_mode").fetchone()
    assert mode == ("wal",), "readers are let in while it is written"
    assert MlflowClient(uri).search_experiments()[0].name == "Default"


def test_a_store_is_made_although_a_process_was_killed_while_it_made_one(tmp_path: Path) -> None:
    uri = default_tracking_uri(tmp_path)
    fork = multiprocessing.get_context("fork")
    killed = fork.Process(target=make_store, args=(uri,))
    killed.start()
    wait_for(lambda: list(tmp_path.glob("mlflow.db.init-*")))
    killed.kill()
    killed.join()
    assert not (tmp_path / "mlflow.db").exists(), "it was killed in time"
    make_store(uri)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (mlflow.MlflowException("no tables"), mlflow.MlflowException, "no tables"),
        (ValueError("no tables", threading.Lock()), SweepError, "ValueError: .*no tables"),
    ],
    ids=["an error of MLflow", "an error that cannot be sent"],
)
def test_what_is_raised_while_a_store_is_made_is_raised_here(
    raised: Exception,
    kind: type[Exception],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(MlflowClient, "search_experiments", refuse)
    with pytest.raises(kind, match=text):
        make_store(default_tracking_uri(tmp_path))


def test_network_disks_are_told_from_local_ones(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw\nhost:/x /data nfs4 rw\n/dev/sdb /data/fast xfs rw\n")
    found = {
        path: on_network_disk(Path(path), mounts)
        for path in ("/home/a/mlflow.db", "/data/a/mlflow.db", "/data/fast/a/mlflow.db")
    }
    assert list(found.values()) == [False, True, False]
    assert on_network_disk(tmp_path, tmp_path / "none") is False


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "./mlruns",
            "tracking URI './mlruns' is a folder, and MLflow no longer writes to file stores. "
            "Migrate it once with\n"
            "  mlflow migrate-filestore --source ./mlruns --target sqlite:///mlflow.db\n"
            "and then pass the database: --tracking-uri sqlite:///HERE/mlflow.db",
        ),
        (
            "file:///data/mlruns",
            "tracking URI 'file:///data/mlruns' is a folder, and MLflow no longer writes to file "
            "stores. Migrate it once with\n"
            "  mlflow migrate-filestore --source /data/mlruns --target sqlite:///mlflow.db\n"
            "and then pass the database: --tracking-uri sqlite:///HERE/mlflow.db",
        ),
        (
            "postgresql://db/mlflow",
            "tracking URI 'postgresql://db/mlflow': sweeps cannot write to a 'postgresql' store."
            " Pass an SQLite file (sqlite:////absolute/path/mlflow.db) or a server"
            " (http://host:port), which can use any store: mlflow server --backend-store-uri ...",
        ),
        (
            "sqlite://",
            "tracking URI 'sqlite://' does not name a file; use sqlite:////absolute/path.db",
        ),
        (
            "sqlite:///mlflow.db",
            "tracking URI 'sqlite:///mlflow.db' depends on the working folder; "
            "use sqlite:///HERE/mlflow.db (four slashes)",
        ),
        (
            "sqlite:///HERE/notes.txt",
            "tracking URI 'sqlite:///HERE/notes.txt': SQLite cannot read the file "
            "(file is not a database)",
        ),
        (
            "sqlite:///HERE/other.db",
            "tracking URI 'sqlite:///HERE/other.db': the file is a database, but not MLflow's;"
            " pass the path of a new file, which MLflow then creates",
        ),
    ],
)
def test_an_unusable_store_is_refused_with_the_way_on(
    uri: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("not a database" * 99)
    with sqlite3.connect("other.db") as other:
        other.execute("create table trips (id integer)")
    with pytest.raises(UserError) as refused:
        check_tracking(uri.replace("HERE", str(tmp_path)))
    assert str(refused.value).replace(str(tmp_path), "HERE") == message


def test_a_store_that_cannot_be_read_on_a_full_disk_is_not_called_damaged(
    empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite needs room for the index of the write-ahead log even to read."""

    def connect(*_: Any, **__: Any) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
        raise error

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(UserError) as refused:
        check_tracking(f"sqlite:///{empty_store}")
    assert str(refused.value).endswith(
        "SQLite cannot read the file (disk I/O error); if its disk is full, free some space"
    )


def test_a_usable_store_is_let_through(tmp_path: Path, empty_store: Path) -> None:
    check_tracking(default_tracking_uri(tmp_path / "not" / "there" / "yet"))
    check_tracking(f"sqlite:///{empty_store}")


def test_a_server_that_is_down_or_is_another_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        down = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    ways = (
        f"(GET {down}/health). Start it, or use another --tracking-uri; "
        "the default is an SQLite file in the storage folder"
    )
    with pytest.raises(UserError) as refused:
        check_tracking(down.replace("//", "//ada:secret@") + "/")
    assert str(refused.value) == (
        f"tracking server {down} does not answer: [Errno 111] Connection refused {ways}"
    )
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Other)
    with running(other), pytest.raises(UserError, match="does not answer like an MLflow server"):
        check_tracking(f"http://127.0.0.1:{other.server_address[1]}")
    broken = Proxy("http://127.0.0.1:9")
    broken.broken = True
    with running(broken), pytest.raises(UserError, match="answers 500 Internal Server Error"):
        check_tracking(broken.url)


class _Other(_Forward):
    def do_GET(self) -> None:
        self._answer(200, b"<html>another service</html>")


# The page, the link


def test_a_link_before_the_tracker_has_begun_says_where_to_look(new_sweep: Any) -> None:
    sweep = new_sweep()
    with pytest.raises(UserError) as refused:
        sweep_link(sweep.folder, "http://127.0.0.1:5000")
    assert str(refused.value) == (
        f"{sweep.folder.id} is not in MLflow yet: the tracker takes a few seconds to start; "
        f"if this persists, check {sweep.folder.logs / 'mlflow.log'}"
    )


def test_there_is_no_link_to_a_sweep_that_mlflow_does_not_track(new_sweep: Any) -> None:
    sweep = new_sweep(config=SweepConfig(trackers=["tensorboard"]))
    with pytest.raises(UserError) as refused:
        sweep_link(sweep.folder, "http://127.0.0.1:5000")
    assert str(refused.value) == (
        f"{sweep.folder.id} is not in MLflow; to write it there, run: python -m sweeps resume"
        f" {sweep.folder.id} --tracker mlflow --storage {sweep.folder.path.parent}"
    )


def test_a_page_without_a_store_or_a_free_port_is_refused(
    tmp_path: Path, empty_store: Path
) -> None:
    with pytest.raises(UserError) as refused, serve(default_tracking_uri(tmp_path), tmp_path, None):
        pass
    assert str(refused.value) == (
        f"there is no MLflow store at {tmp_path / 'mlflow.db'} yet; the first sweep with"
        " `--tracker mlflow` (the default) creates it"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError) as refused,
            serve(f"sqlite:///{empty_store}", tmp_path, port),
        ):
            pass
    assert str(refused.value) == (
        f"port {port} on 127.0.0.1 is not available (Address already in use); choose another "
        "--port, or omit it to use a free one"
    )


def test_the_view_fits_into_a_tag_with_many_params() -> None:
    tuned = {f"lr_scheduler_kwargs.argument_with_a_long_name_{n}": [] for n in range(100)}
    record = a_record(sweep="bert_yelp-20261122-0741-k3f9", mode="min", tuned=tuned)
    name, value = saved_view(record, "0" * 32, 0.0)
    assert name == "mlflow.sharedViewState.bert_yelp-20261122-0741-k3f9"
    assert len(value) < 20_000


# The house


def test_colors_of_many_trials_differ() -> None:
    assert len({color(f"t{number:03}") for number in range(1, 201)}) == 200


def test_the_sweep_process_never_imports_mlflow() -> None:
    code = (
        "import sys, sweeps.trackers.known, sweeps.trackers.process, sweeps.trackers.follow\n"
        "heavy = ('mlflow', 'tensorboardX', 'torch', 'numpy', 'ray')\n"
        "print([n for n in heavy if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
