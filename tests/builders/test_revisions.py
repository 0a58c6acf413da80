"""Which version is meant: commits from a Hub that answers, and the clocks of local files."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from ray import tune

from sweeps import CausalLM, SearchSpace, SweepConfig, TextClassification
from sweeps.builders.base import TINY
from sweeps.builders.data.data_source import SPLIT_NAMES, TEST_NAMES, Source
from sweeps.builders.data.prepared_data import prepared_in
from sweeps.builders.revisions import data_version, pinned, tokenizer_version
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError

NEWEST, TAGGED = "a" * 40, "b" * 40


class Hub(BaseHTTPRequestHandler):
    """Knows the model acme/bert and the dataset acme/reviews."""

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
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process reaches this Hub and no other."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_model_and_data_are_pinned_to_the_commits_that_the_hub_names(hub: None) -> None:
    builder = TextClassification(
        model="acme/bert", dataset="acme/reviews", revisions={"datasets/acme/reviews": "v1"}
    ).pin()
    assert builder.revisions == {"acme/bert": NEWEST, "datasets/acme/reviews": TAGGED}
    assert builder.pin() == builder


def test_every_tuned_choice_of_a_model_is_pinned_when_a_sweep_is_asked_for(
    hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextClassification, "check", lambda self: None)
    own = str(TINY / "model")
    space = SearchSpace(
        build_trainer=TextClassification(model=own, dataset=str(TINY / "dataset")),
        metric="eval_loss",
        mode="min",
        tuned={"model": tune.choice([own, "acme/bert"])},
    )
    builder = make_request(space, SweepConfig()).space.build_trainer
    assert (builder.model, builder.revisions) == (own, {"acme/bert": NEWEST})


def test_a_name_that_the_hub_does_not_give_is_an_error_that_shows_it(hub: None) -> None:
    with pytest.raises(UserError) as raised:
        CausalLM(model="acme/none", dataset="acme/reviews").pin()
    assert str(raised.value).startswith(
        "model='acme/none': not a local folder, and the Hub does not provide it ("
    )


def test_a_hub_that_hangs_up_is_an_error_that_shows_it(
    hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "answer", lambda *_: None)
    monkeypatch.setattr("sweeps.builders.revisions.hub_answers", lambda: True)
    with pytest.raises(UserError, match=r"the Hub does not provide it \("):
        CausalLM(model="acme/bert", dataset="acme/reviews").pin()


def test_local_folders_and_a_hub_that_is_not_there_pin_nothing() -> None:
    assert pinned({}, str(TINY / "model"), str(TINY / "dataset")) == {}
    assert pinned({"acme/bert": "v1"}, "acme/bert", "acme/reviews") == {"acme/bert": "v1"}


def test_data_of_a_commit_is_that_commit() -> None:
    assert data_version(Source("acme/reviews", None, NEWEST), SPLIT_NAMES) == [
        "acme/reviews",
        NEWEST,
    ]


def test_a_local_file_that_is_read_and_was_written_again_is_another_version(tmp_path: Path) -> None:
    def versions() -> list[list[str]]:
        return [
            data_version(Source(str(tmp_path), None, None), n) for n in (SPLIT_NAMES, TEST_NAMES)
        ]

    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\ngood,1\n")
    differ = []
    for name in ("train", "validation", "test"):
        before = versions()
        os.utime(tmp_path / f"{name}.csv", ns=(1, 1))
        differ.append([old != new for old, new in zip(before, versions(), strict=True)])
    assert differ == [[True, True], [True, False], [False, True]]


def test_a_test_split_that_was_replaced_is_prepared_again(tmp_path: Path) -> None:
    def write(name: str, rows: int) -> None:
        lines = [f"text {i},{i % 2}" for i in range(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))

    write("train", 20)
    write("test", 4)
    builder = TextClassification(
        model=str(TINY / "model"), dataset=str(tmp_path), max_tokens=16
    ).on_test()
    with prepared_in(tmp_path / "prepared"):
        assert len(builder.prepare().eval) == 4
        write("test", 6)
        assert len(builder.prepare().eval) == 6


def test_a_tokenizer_is_known_by_its_files_wherever_they_lie(tmp_path: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((TINY / "model" / file).read_bytes())
    same = tokenizer_version(str(tmp_path), None)
    assert same == tokenizer_version(str(TINY / "model"), None)
    (tmp_path / "added_tokens.json").write_text('{"<new>": 100}')
    assert tokenizer_version(str(tmp_path), None) != same
