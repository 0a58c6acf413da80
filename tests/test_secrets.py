"""What is secret in an environment, and that no text of ours shows it."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweeps import secrets
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.event_log import decode, encode
from sweeps.secrets import (
    for_workers,
    is_secret,
    named,
    redact,
    redact_stream,
    redacted,
    take_credentials,
)
from sweeps.trackers.mlflow import check_tracking

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
    plant(monkeypatch, **{name: "abracadabra"})
    assert is_secret(name, "abracadabra")
    assert redact("says abracadabra!") == "says ***!"


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_RETRY_MODE"),
        *("HF_TOKEN_PATH", "AWS_WEB_IDENTITY_TOKEN_FILE", "TOKENIZERS_PARALLELISM", "HF_HOME"),
        *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_URI", "MAX_TOKENS", "SECRETARY"),
    ],
)
def test_settings_are_no_secrets(monkeypatch: pytest.MonkeyPatch, name: str):
    plant(monkeypatch, **{name: "abracadabra"})
    assert redact("says abracadabra!") == "says abracadabra!"


def test_a_value_of_under_eight_characters_is_left_since_it_stands_in_other_words(
    monkeypatch: pytest.MonkeyPatch,
):
    plant(monkeypatch, X_TOKEN="testing", Y_TOKEN="password")  # moto's, and many a server's
    assert redact("testing a password") == "testing a ***"


def test_a_secret_is_found_in_every_spelling_the_longest_first(monkeypatch: pytest.MonkeyPatch):
    key = "ab/cd+ef'\"g\\h\né"
    plant(monkeypatch, AWS_SECRET_ACCESS_KEY=key, X_TOKEN="prefixed", Y_TOKEN="prefixed-and-more")
    for text in (
        key,
        repr([key]),
        json.dumps([key]),
        "http://h/?k=ab%2Fcd%2Bef%27%22g%5Ch%0A%C3%A9",
    ):
        assert "cd" not in redact(text)
    assert redact("prefixed-and-more, prefixed") == "***, ***"


def test_a_secret_stays_one_when_its_variable_goes(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, HF_TOKEN="abracadabra")
    redact("")
    del secrets.os.environ["HF_TOKEN"]
    assert redact("abracadabra") == "***"


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
        "HF_TOKEN": "abracadabra",
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
        HF_TOKEN="abracadabra",
        HF_HUB_TOKEN="abracadabra",
        HF_ENDPOINT="https://ada:abracadabra@mirror",
        HF_HOME="/hf",
    )
    environment = json.dumps(_environment(Path("/code"), "1.2.3.4:5"))
    assert "/hf" in environment
    assert "abracadabra" not in environment


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
            "https://abracadabra@host/x",
            "https://***@host/x: a URI with credentials needs both, USER:PASSWORD@HOST",
        ),
        (
            "s3://KEY:@bucket",
            "s3://***@bucket: a URI with credentials needs both, USER:PASSWORD@HOST",
        ),
        (
            "s3://KEY:abra/cadabra@bucket",
            "s3://KEY:SECRET@BUCKET: write a / in the secret as %2F",
        ),
    ],
)
def test_half_credentials_are_refused_without_being_shown(uri: str, message: str):
    with pytest.raises(UserError) as raised:
        take_credentials(uri)
    assert str(raised.value) == message


def test_a_store_that_is_refused_is_named_without_its_credentials():
    with pytest.raises(UserError) as raised:
        check_tracking("mysql://ada:abracadabra@db/mlflow")
    assert str(raised.value).startswith("tracking URI 'mysql://***@db/mlflow': 'mysql' is not")


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


def test_an_events_texts_are_redacted_and_its_numbers_and_names_stay(
    monkeypatch: pytest.MonkeyPatch,
):
    plant(monkeypatch, A_TOKEN='quoted"secret', B_TOKEN="traceback", C_TOKEN="12345678")
    event = ev.AttemptEnded(
        time=12345678.0,
        trial="t001",
        attempt=1,
        outcome="error",
        message='ValueError: quoted"secret',
        traceback="at https://ada:pw@host",
        train_s=12345678.0,
        device_s=0.0,
    )
    read = decode(encode(event))
    assert isinstance(read, ev.AttemptEnded)
    assert (read.message, read.traceback) == ("ValueError: ***", "at https://***@host")
    assert (read.time, read.train_s) == (12345678.0, 12345678.0)
    assert redacted({"traceback": ("traceback", 1)}) == {"traceback": ["***", 1]}


def test_what_is_secret_of_a_text_is_said_without_it(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, HF_TOKEN="abracadabra")
    assert named("x abracadabra") == "the value of $HF_TOKEN"
    assert named("s3://a:b@c") == "credentials inside a URI"
    assert named("AKIAIOSFODNN7EXAMPLE") == "an access token"
    assert named("fine") is None


def test_whoever_holds_a_redacted_stream_writes_no_secret(monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch, HF_TOKEN="abracadabra")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    redact_stream(stream)
    print("a", "abracadabra", file=stream)
    handler.emit(logging.makeLogRecord({"msg": "b abracadabra"}))
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
        env={"PYTHONPATH": str(ROOT), "HF_TOKEN": "abracadabra"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "abracadabra" not in done.stdout + done.stderr + (tmp_path / "log").read_text()
    assert done.stdout == "***\n"
    assert done.stderr.rstrip().endswith("RuntimeError: ***")
    logged = (tmp_path / "log").read_text().splitlines()
    assert (logged[0], logged[1], logged[-1]) == ("*** of 1", "caught", "ValueError: ***")
