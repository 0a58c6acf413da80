"""Which version is meant: commits from a Hub that answers, and the clocks of local files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sweeps.builders.base import TINY
from sweeps.builders.revisions import data_version, pinned, tokenizer_version

NEWEST, TAGGED = "a" * 40, "b" * 40


class Hub(BaseHTTPRequestHandler):
    """Knows the model acme/bert and the data set acme/reviews."""

    def do_GET(self) -> None:
        commits = {"main": NEWEST, "v1": TAGGED}
        for kind, name in (("models", "acme/bert"), ("datasets", "acme/reviews")):
            start = f"/api/{kind}/{name}"
            if self.path.startswith(start):
                revision = self.path.removeprefix(start).removeprefix("/revision/").split("?")[0]
                body = {"id": name, "sha": commits[revision or "main"], "siblings": [], "tags": []}
                return self.answer(200, body)
        return self.answer(200 if self.path == "/" else 404, {})

    def answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def on_the_hub(hub: str, code: str) -> str:
    """What a new process prints that reaches this Hub and no other."""
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")
    }
    environment |= {"HF_ENDPOINT": hub, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_model_and_data_are_pinned_to_the_commits_that_the_hub_names(hub: str) -> None:
    code = """
from sweeps import TextClassification
builder = TextClassification(model="acme/bert", dataset="acme/reviews",
                             revisions={"datasets/acme/reviews": "v1"}).pin()
print(sorted(builder.revisions.items()))
print(builder.pin() == builder)
"""
    assert on_the_hub(hub, code).split("\n") == [
        str([("acme/bert", NEWEST), ("datasets/acme/reviews", TAGGED)]),
        "True",
    ]


def test_every_tuned_choice_of_a_model_is_pinned_when_a_sweep_is_asked_for(hub: str) -> None:
    code = f"""
from ray import tune
from sweeps import SearchSpace, SweepConfig, TextClassification
from sweeps.driver.new_request import make_request
tiny = {str(TINY)!r}
TextClassification.check = lambda self: None
space = SearchSpace(
    build_trainer=TextClassification(model=tiny + "/model", dataset=tiny + "/dataset"),
    metric="eval_loss", mode="min",
    tuned={{"model": tune.choice([tiny + "/model", "acme/bert"])}},
)
builder = make_request(space, SweepConfig()).space.build_trainer
print(builder.model == tiny + "/model", dict(builder.revisions))
"""
    assert on_the_hub(hub, code) == f"True { ({'acme/bert': NEWEST}) }"


def test_a_name_that_the_hub_does_not_give_is_an_error_that_shows_it(hub: str) -> None:
    code = """
from sweeps import CausalLM
from sweeps.errors import UserError
try:
    CausalLM(model="acme/none", dataset="acme/reviews").pin()
except UserError as error:
    print(error)
"""
    assert on_the_hub(hub, code).startswith(
        "revisions['acme/none']=None: not a local folder, and the Hub does not provide it ("
    )


def test_local_folders_and_a_hub_that_is_not_there_pin_nothing() -> None:
    assert pinned({}, str(TINY / "model"), str(TINY / "dataset")) == {}
    assert pinned({"acme/bert": "v1"}, "acme/bert", "acme/reviews") == {"acme/bert": "v1"}


def test_data_of_a_commit_is_that_commit() -> None:
    assert data_version("acme/reviews", NEWEST) == ["acme/reviews", NEWEST]


def test_a_local_file_that_was_written_again_is_another_version(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\ngood,1\n")
    first = data_version(str(tmp_path), None)
    os.utime(tmp_path / "test.csv", ns=(1, 1))  # never read
    assert data_version(str(tmp_path), None) == first
    os.utime(tmp_path / "train.csv", ns=(1, 1))
    assert data_version(str(tmp_path), None) != first


def test_a_tokenizer_is_known_by_its_files_wherever_they_lie(tmp_path: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((TINY / "model" / file).read_bytes())
    same = tokenizer_version(str(tmp_path), None)
    assert same == tokenizer_version(str(TINY / "model"), None)
    (tmp_path / "added_tokens.json").write_text('{"<new>": 100}')
    assert tokenizer_version(str(tmp_path), None) != same
