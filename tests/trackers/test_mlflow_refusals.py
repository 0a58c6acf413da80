"""What MLflow refuses is written down and passed over; only an absent store is tried again."""

from __future__ import annotations

import http.server
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import IntegrityError, OperationalError

from sweeps.trackers import follow
from sweeps.trackers.mlflow import sqlite_store, sweep_link
from sweeps.trackers.mlflow.refusals import is_absent
from tests.stored_runs import history, rejected, runs_of
from tests.written_sweep import wait_for

SERVER, FILE = "http://127.0.0.1:5000", "sqlite:////tmp/mlflow.db"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracker that tries again gives up at once after the end of the sweep."""
    monkeypatch.setattr(follow, "GIVE_UP_S", 0.0)
    monkeypatch.setattr(follow, "RETRY_S", (0.01, 0.01))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def answered(**fields: str) -> RestException:
    return RestException({"message": "no", **fields})


def of_proxy(status: int) -> MlflowException:
    return MlflowException(f"API request to endpoint /x failed with error code {status} != 200")


@pytest.mark.parametrize(
    ("error", "uri", "absent"),
    [
        (MlflowException("locked", TEMPORARILY_UNAVAILABLE), FILE, True),
        (MlflowException("int too large"), FILE, False),
        (MlflowException("no", BAD_REQUEST), FILE, False),
        (OperationalError("select", {}, Exception("disk is full")), FILE, True),
        (IntegrityError("insert", {}, Exception("twice")), FILE, False),
        (MlflowException("API request to http://x failed with exception refused"), SERVER, True),
        (answered(error_code="INTERNAL_ERROR"), SERVER, False),
        (answered(error_code="TEMPORARILY_UNAVAILABLE"), SERVER, True),
        (answered(error_code="INVALID_PARAMETER_VALUE"), SERVER, False),
        (answered(), SERVER, True),
        (of_proxy(502), SERVER, True),
        (of_proxy(408), SERVER, True),
        (of_proxy(413), SERVER, False),
        (MlflowException("no", PERMISSION_DENIED), SERVER, False),
        (ConnectionResetError(104, "reset"), SERVER, True),
        (PermissionError(13, "denied"), FILE, False),
        (OSError(28, "no space"), FILE, True),
        (ModuleNotFoundError("boto3"), SERVER, False),
    ],
)
def test_a_store_that_is_absent_is_told_from_one_that_refuses(
    error: Exception, uri: str, absent: bool
) -> None:
    assert is_absent(error, uri) is absent


def one_trial(sweep: Any, checkpoint: Path) -> None:
    """Write a whole sweep of two trials, of which one fails."""
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.save_best("t001", 1, checkpoint)
    sweep.end("t001", "finished")
    sweep.begin("t002")
    sweep.report("t002", 1, 0.4)
    sweep.end("t002", "failed", "error", traceback="Traceback\nValueError: x")
    sweep.end_sweep()


def test_refused_values_are_written_down_said_once_and_do_not_hold_up_the_others(
    new_sweep: Any,
) -> None:
    sweep = new_sweep(fixed={"text": "y" * 7000})
    for trial in ("t001", "t002"):
        sweep.begin(trial)
        for number in (1, 2):
            many = {"step": 2**70} if number == 1 else {}
            sweep.report(trial, number, 0.5 + number / 10, log_entries=(), **many)
        sweep.end(trial, "finished")
    sweep.end_sweep()
    file = sweep.folder.logs / "mlflow-rejected.jsonl"
    assert (
        sweep.write()
        == f"mlflow rejected some of the sweep's data; {file} lists what is missing there"
    )
    lines = rejected(sweep)
    assert {(line["trial"], line["kind"], line["step"]) for line in lines} == {
        (trial, "metric", 2**70) for trial in ("t001", "t002")
    }
    [line] = [line for line in lines if (line["trial"], line["name"]) == ("t001", "eval_accuracy")]
    assert (line["value"], line["why"]) == (
        0.6,
        "Python int too large to convert to SQLite INTEGER",
    )
    assert sweep.log_of().count("mlflow rejected metric 'eval_accuracy'") == 1
    shutil.rmtree(sweep.folder.trackers)
    assert "rejected some of" in str(sweep.write())
    assert rejected(sweep) == lines, "each once, also if the whole log is written again"
    runs = runs_of(sweep)
    for trial in ("t001", "t002"):
        assert history(sweep, runs[trial], "eval_accuracy") == [(40, 0.7)]
        assert runs[trial].info.status == "FINISHED"
    assert len(runs["t001"].data.params["text"]) == 6000
    assert (
        runs["t001"]
        .data.params["text"]
        .endswith("(truncated; the full value is in sweep.json of the sweep's run)")
    )


@pytest.mark.parametrize(
    ("call", "kinds"),
    [
        ("create_run", {"run"}),
        ("set_terminated", {"status"}),
        ("log_text", {"file"}),
        ("create_logged_model", {"model"}),
        ("log_outputs", {"model"}),
        ("set_experiment_tag", {"view"}),
    ],
)
def test_whatever_else_is_refused_is_passed_over(
    call: str, kinds: set[str], new_sweep: Any, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(MlflowClient, call)

    def refuse(self: MlflowClient, *args: Any, **keywords: Any) -> Any:
        names = [*args, *keywords.values()]
        if call == "create_run" and "t002" not in names:  # without the sweep's own, nothing is
            return real(self, *args, **keywords)
        if call == "set_experiment_tag" and not str(names[1]).startswith("mlflow.sharedView"):
            return real(self, *args, **keywords)
        raise MlflowException("no", BAD_REQUEST)

    monkeypatch.setattr(MlflowClient, call, refuse)
    sweep = new_sweep()
    one_trial(sweep, weights)
    assert "rejected some of" in str(sweep.write()), sweep.log_of()
    assert {line["kind"] for line in rejected(sweep)} == kinds
    assert {line["why"] for line in rejected(sweep)} == {"no"}
    runs = runs_of(sweep)
    assert history(sweep, runs["t001"], "eval_accuracy") == [(20, 0.5)]
    link = sweep_link(sweep.folder, SERVER)
    assert ("searchFilter=tags.mlflow.parentRunId" in link) == (kinds == {"view"})


def test_a_store_of_files_that_refuses_them_does_not_cost_the_metrics(
    new_sweep: Any, weights: Path
) -> None:
    sweep = new_sweep()
    (sweep.storage / "mlartifacts").write_text("a file where a folder should be")
    one_trial(sweep, weights)
    assert "rejected some of" in str(sweep.write())
    assert {line["kind"] for line in rejected(sweep)} == {"file", "model"}
    assert runs_of(sweep)[sweep.folder.id].info.status == "FINISHED"


def test_a_store_of_files_with_errors_of_its_own_is_tried_again_for_a_limited_time(
    new_sweep: Any, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ClientError(Exception):
        """Like boto3's."""

    def fail(*_: object) -> None:
        raise ClientError("slow down")

    monkeypatch.setattr(MlflowClient, "log_text", fail)
    sweep = new_sweep()
    one_trial(sweep, weights)
    assert "ClientError: slow down" in str(sweep.write())
    assert history(sweep, runs_of(sweep)["t001"], "eval_accuracy") == [(20, 0.5)]
    monkeypatch.undo()
    assert sweep.write() is None, "what is missing is added"


def _lacks_a_package(_: Path) -> None:
    raise ModuleNotFoundError("No module named 'cryptography'", name="cryptography")


def test_a_missing_package_ends_the_tracker_at_once_while_the_sweep_runs(
    new_sweep: Any, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "_migrate", _lacks_a_package)
    sweep = new_sweep()
    (sweep.storage / "mlflow.db").unlink()
    sweep.begin("t001")  # its log is held
    assert sweep.write() == (
        "mlflow is missing part of the sweep: a package is missing: No module named 'cryptography'"
        f" (see {sweep.folder.logs / 'mlflow.log'}). The sweep itself is not affected. Once that is"
        f" fixed, run: python -m sweeps.trackers.follow mlflow {sweep.folder.path}"
    )
    sweep.log.close()
    shutil.copyfile(empty_store, sweep.storage / "mlflow.db")
    assert sweep.write() is None


def test_a_process_that_cannot_use_its_tool_is_said_once_while_the_sweep_runs(
    new_sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = tmp_path / "lacking" / "mlflow"
    lacking.mkdir(parents=True)
    (lacking / "__init__.py").write_text("import not_installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(lacking.parent), *sys.path]))
    sweep = new_sweep()
    tracker = sweep.start()
    wait_for(lambda: sweep.said)
    assert "a package is missing: No module named 'not_installed'" in sweep.said[0]
    sweep.begin("t001")
    sweep.end_sweep()
    assert tracker.finish(60) is None
    assert len(sweep.said) == 1


def test_a_store_of_another_version_ends_the_tracker_at_once_and_says_what_to_do(
    new_sweep: Any,
) -> None:
    sweep = new_sweep()
    with closing(sqlite3.connect(sweep.storage / "mlflow.db")) as database:
        database.execute("update alembic_version set version_num = 'old'")
        database.commit()
    sweep.begin("t001")
    said = str(sweep.write())
    assert "Detected out-of-date database schema" in said
    assert "mlflow db upgrade" in sweep.log_of()


def test_a_store_that_lets_this_user_write_no_more_ends_the_tracker_with_nothing_rejected(
    new_sweep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise MlflowException("read only", PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, "log_batch", denied)
    sweep = new_sweep()
    sweep.begin("t001")
    assert "read only (see" in str(sweep.write())
    assert rejected(sweep) == []
    monkeypatch.undo()
    sweep.end_sweep()
    assert sweep.write() is None


class _Closed(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def closed_server() -> Iterator[str]:
    """A server that wants other credentials."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Closed)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_that_lets_nobody_in_ends_the_tracker_at_once(
    new_sweep: Any, closed_server: str
) -> None:
    sweep = new_sweep(uri=closed_server)
    sweep.begin("t001")
    assert "failed with error code 401" in str(sweep.write())
