"""What is secret in an environment, and that no text of ours shows it."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
import threading
import types
import typing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweeps import secrets
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog, decode, encode, read_events
from sweeps.report import Report
from sweeps.secrets import (
    for_workers,
    is_secret,
    named,
    redact,
    redact_stream,
    take_credentials,
    unsearched,
    without_secrets,
)
from sweeps.trackers.mlflow.store import check_tracking

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without secrets, and a process that has seen none."""
    monkeypatch.setattr(secrets, "_seen", {})
    monkeypatch.setattr("os.environ", {"HOME": "/home/ada", "PATH": "/bin"})


def plant(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setitem(secrets.os.environ, name, value)


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_TOKEN", "WANDB_API_KEY", "OPENAI_APIKEY"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
        *("RAY_AUTH_TOKEN", "DB_PASSWD", "CLIENT_SECRET", "SSH_PASSPHRASE", "token", "PASSWORD"),
        *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_CONNECTION_STRING", "SIGNING_PRIVATE_KEY"),
    ],
)
def test_a_variable_named_like_a_secret_is_one(monkeypatch: pytest.MonkeyPatch, name: str):
    plant(monkeypatch, **{name: "abracadabra-7"})
    assert is_secret(name, "abracadabra-7")
    assert redact("says abracadabra-7!") == "says ***!"


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_RETRY_MODE"),
        *("HF_TOKEN_PATH", "AWS_WEB_IDENTITY_TOKEN_FILE", "TOKENIZERS_PARALLELISM", "HF_HOME"),
        *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_URI", "MAX_TOKENS", "SECRETARY"),
    ],
)
def test_settings_are_no_secrets(monkeypatch: pytest.MonkeyPatch, name: str):
    plant(monkeypatch, **{name: "abracadabra-7"})
    assert redact("says abracadabra-7!") == "says abracadabra-7!"


def test_a_secret_is_found_in_every_spelling_the_longest_first(monkeypatch: pytest.MonkeyPatch):
    key = "ab/cd+ef'\"g\\h\né"
    plant(
        monkeypatch, AWS_SECRET_ACCESS_KEY=key, X_TOKEN="prefixed-1", Y_TOKEN="prefixed-1-and-more"
    )
    for text in (
        key,
        repr([key]),
        json.dumps([key]),
        "http://h/?k=ab%2Fcd%2Bef%27%22g%5Ch%0A%C3%A9",
    ):
        assert "cd" not in redact(text)
    assert redact("prefixed-1-and-more, prefixed-1") == "***, ***"


def test_a_secret_stays_one_when_its_variable_goes(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, HF_TOKEN="abracadabra-7")
    redact("")
    del secrets.os.environ["HF_TOKEN"]
    assert redact("abracadabra-7") == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://ada:pw@host:5000/x, or", "at https://***@host:5000/x, or"),
        ("s3://KEY:ab%2Fcd@bucket/p", "s3://***@bucket/p"),
        ("https://ghp_abc@github.com/a/b", "https://***@github.com/a/b"),
        ("mysql://u:p@ss@db/x", "mysql://***@db/x"),
        ("https://host/a@b?mail=x@y", "https://host/a@b?mail=x@y"),
        ("ada@host and s3://bucket/a", "ada@host and s3://bucket/a"),
        ("a hf_" + "aB3" * 11 + " b", "a *** b"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("hf_internal_testing and hf_home", "hf_internal_testing and hf_home"),
    ],
)
def test_credentials_in_a_uri_and_tokens_by_their_look_are_hidden(text: str, shown: str):
    assert redact(text) == shown


def test_the_password_in_a_variables_uri_is_a_secret_by_itself_too(
    monkeypatch: pytest.MonkeyPatch,
):
    plant(monkeypatch, HF_ENDPOINT="https://ada:p%40ssword@mirror")
    assert redact("ada, p@ssword, p%40ssword") == "ada, ***, ***"


def test_workers_get_secrets_and_what_goes_with_them(monkeypatch: pytest.MonkeyPatch):
    given = {
        "HF_TOKEN": "abracadabra-7",
        "AWS_REGION": "eu-west-1",
        "X_API_KEY": "k",
        "MLFLOW_TRACKING_USERNAME": "ada",
        "HF_ENDPOINT": "https://ada:pw@mirror",
    }
    plant(monkeypatch, HF_HOME="/hf", HTTP_PROXY="http://ada:pw@proxy", **given)
    assert for_workers(("HF_",)) == given


def test_the_runtime_environment_that_ray_logs_has_no_secret(monkeypatch: pytest.MonkeyPatch):
    from sweeps.driver.cluster import _environment

    plant(
        monkeypatch,
        HF_TOKEN="abracadabra-7",
        HF_HUB_TOKEN="abracadabra-7",
        HF_ENDPOINT="https://ada:abracadabra-7@mirror",
        HF_HOME="/hf",
    )
    environment = json.dumps(_environment(Path("/code"), "1.2.3.4:5", None))
    assert "/hf" in environment
    assert "abracadabra-7" not in environment


# URIs.


def test_a_tracking_uri_gives_its_credentials_to_the_environment(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, MLFLOW_TRACKING_TOKEN="another")
    uri = take_credentials("https://ada:p%40ssword@mlflow.example:5000/at")
    assert uri == "https://mlflow.example:5000/at"
    mlflow = {k: v for k, v in secrets.os.environ.items() if k.startswith("MLFLOW")}
    assert mlflow == {
        "MLFLOW_TRACKING_USERNAME": "ada",
        "MLFLOW_TRACKING_PASSWORD": "p@ssword",
    }


def test_a_storage_uri_gives_its_credentials_to_the_environment(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, AWS_SESSION_TOKEN="of another key")
    assert take_credentials("s3://KEY:ab%2Fcd@bucket/sweeps?x=y") == "s3://bucket/sweeps?x=y"
    aws = {k: v for k, v in secrets.os.environ.items() if k.startswith("AWS")}
    assert aws == {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "ab/cd"}


@pytest.mark.parametrize(
    "uri",
    [
        *("./results", "/a/b@c:d", "s3://bucket/a@b", "http://host:5000/a@b", "gs://bucket"),
        "sqlite:////a/mlflow.db",
    ],
)
def test_a_uri_without_credentials_stays_as_it_is(uri: str):
    before = dict(secrets.os.environ)
    assert take_credentials(uri) == uri
    assert secrets.os.environ == before


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "https://abracadabra-7@host/x",
            "https://***@host/x: the credentials are incomplete; write USER:PASSWORD@HOST",
        ),
        (
            "s3://KEY:@bucket",
            "s3://***@bucket: the credentials are incomplete; write KEY:SECRET@BUCKET",
        ),
        (
            "s3://KEY:abra/cadabra@bucket",
            "this s3:// URI has a : but no @ before its first /; write"
            " s3://KEY:SECRET@BUCKET/PATH, with each / in the secret as %2F",
        ),
    ],
)
def test_half_credentials_are_refused_without_being_shown(uri: str, message: str):
    with pytest.raises(UserError) as raised:
        take_credentials(uri)
    assert str(raised.value) == message


def test_a_store_that_is_refused_is_named_without_its_credentials():
    with pytest.raises(UserError) as raised:
        check_tracking("mysql://ada:abracadabra-7@db/mlflow")
    assert str(raised.value).startswith("tracking URI 'mysql://***@db/mlflow': sweeps cannot")


def test_a_server_is_asked_with_the_credentials_that_stood_in_its_uri():
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        check_tracking(take_credentials(f"http://ada:love%3Alace@127.0.0.1:{server.server_port}"))
        thread.join()
    basic = base64.b64encode(b"ada:love:lace").decode()
    assert asked == [("/health", f"Basic {basic}")]


# What is written.


FREE = {
    ("SmokeEnded", "message"),
    ("SmokeEnded", "traceback"),
    ("TrialSuggested", "params"),
    ("AttemptEnded", "message"),
    ("AttemptEnded", "traceback"),
    ("SweepEnded", "reason"),
    ("OfConfirmation", "inner"),
}
"""The fields of events that people and libraries write."""


def texts_of(kind: type[ev.Event]) -> dict[str, str]:
    """A text for each field of an event that holds one."""
    texts = {}
    for name, hint in typing.get_type_hints(kind).items():
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        for each in typing.get_args(hint) if union else (hint,):
            if typing.get_origin(each) is typing.Literal:
                texts[name] = typing.get_args(each)[-1]
            elif each is str:
                texts[name] = f"{kind.__name__}/{name}-1"
    return texts


@pytest.mark.parametrize("kind", ev.EVENTS)
def test_of_an_event_secrets_are_hidden_in_what_others_wrote_alone(
    monkeypatch: pytest.MonkeyPatch, kind: str
):
    cls = ev.EVENTS[kind]
    texts = texts_of(cls)
    hints = typing.get_type_hints(cls)
    rest = {
        "report": REPORT,
        "params": {"text-of-it": ["text-of-it"]},
        "metrics": {"eval_m-1": 1.0},
        "inner": ev.SweepEnded(status="failed", reason="text-of-it"),
    }
    given = {name: texts.get(name, rest.get(name, 1)) for name in hints}
    event = cls(**given)
    words = [
        *texts.values(),
        "text-of-it",
        kind,
        "traceback",
        "eval_m-1",
        "trial-of-report",
        *hints,
    ]
    plant(monkeypatch, **{f"W{i}_TOKEN": word for i, word in enumerate(words)})
    hidden = without_secrets(event)
    changed = {name for name in hints if getattr(hidden, name) != getattr(event, name)}
    assert {(kind, name) for name in changed} == {pair for pair in FREE if pair[0] == kind}
    assert all("***" in str(getattr(hidden, name)) for name in changed)
    assert "text-of-it" in getattr(hidden, "params", {"text-of-it": ""}), "a key"
    assert decode(encode(hidden)) == hidden


REPORT = Report(
    trial="trial-of-report",
    number=1,
    step=1,
    max_steps=2,
    epoch=1.0,
    metrics={"eval_m-1": 1.0},
    train_s=1.0,
)


def test_a_sweeps_trials_keep_their_ends_when_a_secret_is_a_word_of_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    plant(monkeypatch, A_TOKEN="finished", B_TOKEN="stopped_early", C_TOKEN="events-t001")
    told: list[ev.Event] = []
    log = EventLog(tmp_path / "events.jsonl", [told.append])
    log.append(
        ev.TrialEnded(trial="events-t001", status="finished"),
        ev.TrialEnded(trial="t002", status="stopped_early"),
        ev.SweepEnded(status="failed", reason="events-t001 of https://ada:pw@host stopped_early"),
    )
    log.close()
    read = [event for event, _ in read_events(tmp_path / "events.jsonl")]
    assert read == told
    first, second, end = read
    assert isinstance(first, ev.TrialEnded)
    assert isinstance(second, ev.TrialEnded)
    assert isinstance(end, ev.SweepEnded)
    assert (first.trial, first.status, second.status) == (
        "events-t001",
        "finished",
        "stopped_early",
    )
    assert end.reason == "*** of https://***@host ***"


def test_without_a_secret_the_very_same_object_comes_back(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, HF_TOKEN="abracadabra-7")
    params = {"a": (1, ["x", float("nan")]), "b": {"c": None}}
    event = ev.TrialSuggested(trial="t001", params=params, origin="searcher", seed=0)
    assert without_secrets(event) is event


@pytest.mark.parametrize("word", ["finished", "Checkpoint", "PASSWORD", "short", "abracadabra"])
def test_a_short_value_or_an_ordinary_word_is_not_searched_for_and_is_named(
    monkeypatch: pytest.MonkeyPatch, word: str
):
    plant(monkeypatch, X_TOKEN=word, EMPTY_TOKEN="", GOOD_TOKEN="correct-horse-battery")
    plant(monkeypatch, HF_ENDPOINT=f"https://ada:{word}@mirror")
    assert redact(f"{word} of correct-horse-battery") == f"{word} of ***"
    assert redact(f"https://ada:{word}@mirror") == "https://***@mirror"
    assert unsearched() == ["HF_ENDPOINT", "X_TOKEN"]


@pytest.mark.parametrize("value", ["abcdefghijklmnop", "passWord", "hunter-two", "p4ssword"])
def test_what_is_no_ordinary_word_is_searched_for(monkeypatch: pytest.MonkeyPatch, value: str):
    plant(monkeypatch, X_TOKEN=value)
    assert redact(value) == "***"
    assert unsearched() == []


def test_what_is_secret_of_a_text_is_said_without_it(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, HF_TOKEN="abracadabra-7")
    assert named("x abracadabra-7") == "the value of $HF_TOKEN"
    assert named("s3://a:b@c") == "credentials inside a URI"
    assert named("AKIAIOSFODNN7EXAMPLE") == "an access token"
    assert named("fine") is None


def test_whoever_holds_a_redacted_stream_writes_no_secret(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, HF_TOKEN="abracadabra-7")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    redact_stream(stream)
    print("a", "abracadabra-7", file=stream)
    handler.emit(logging.makeLogRecord({"msg": "b abracadabra-7"}))
    assert stream.getvalue() == "a ***\nb ***\n"


def test_a_process_with_redacted_output_logs_prints_and_dies_without_its_secrets(tmp_path: Path):
    script = (
        "import logging, os, sys\n"
        "from sweeps.secrets import redact_output\n"
        "early = logging.StreamHandler()\n"
        "redact_output()\n"
        "secret = os.environ.pop('HF_TOKEN')\n"
        "log = logging.getLogger('theirs')\n"
        "log.addHandler(early)\n"
        "log.addHandler(logging.FileHandler(sys.argv[1]))\n"
        "log.warning('%s of %d', secret, 1)\n"
        "log.warning('%d is no number', secret)\n"
        "try:\n"
        "    raise ValueError(secret)\n"
        "except ValueError:\n"
        "    log.exception('caught')\n"
        "print(secret)\n"
        "raise RuntimeError(secret)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        env={"PYTHONPATH": str(ROOT), "HF_TOKEN": "abracadabra-7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "abracadabra-7" not in done.stdout + done.stderr + (tmp_path / "log").read_text()
    assert done.stdout == "***\n"
    assert done.stderr.rstrip().endswith("RuntimeError: ***")
    logged = (tmp_path / "log").read_text().splitlines()
    assert (logged[0], logged[1], logged[-1]) == ("*** of 1", "caught", "ValueError: ***")
