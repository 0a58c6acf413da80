"""Uploading an export: to a stand-in of the Hub's HTTP API, in this process."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.hub_upload import check_upload, upload
from sweeps.errors import SweepError, UserError


class Hub:
    """What the stand-in was told."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.message = ""
        self.tokens: set[str | None] = set()
        self.refuses = False
        self.hangs_up = False


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    told = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            told.tokens.add(self.headers["Authorization"])
            if told.hangs_up:
                return None
            if told.refuses:
                return self.answer(403, {"error": "this token may not write"})
            if self.path == "/api/repos/create":
                told.made = json.loads(body)
                return self.answer(200, {"url": f"{url}/ada/{told.made['name']}"})
            if self.path == "/api/validate-yaml":
                return self.answer(200, {"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                modes = {"uploadMode": "regular", "shouldIgnore": False}
                return self.answer(200, {"files": [{"path": f["path"], **modes} for f in asked]})
            assert self.path == "/api/models/ada/best/commit/main"
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    told.message = line["value"]["summary"]
                elif line["key"] == "file":
                    told.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = {"commitUrl": f"{url}/ada/best/commit/c0ffee", "commitOid": "c0ffee"}
            return self.answer(200, {"success": True, **commit})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield told
        server.shutdown()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "README.md").write_text("---\nlibrary_name: transformers\n---\n# best\n")
    (tmp_path / "model.safetensors").write_bytes(b"\x00weights")
    (tmp_path / "code" / "mine.py").write_text("import torch\n")
    (tmp_path / ".eval_results").mkdir()
    (tmp_path / ".eval_results" / "ada--reviews.yaml").write_text("- value: 0.8\n")
    return tmp_path


@pytest.mark.parametrize("private", [True, False])
def test_a_folder_is_uploaded_whole_in_one_commit(private: bool, hub: Hub, exported: Path) -> None:
    check_upload("ada/best")
    address = upload(exported, "ada/best", private=private, message="t004 of a sweep")
    assert address.endswith("/ada/best/commit/c0ffee")
    assert hub.files == {
        path.relative_to(exported).as_posix(): path.read_bytes()
        for path in exported.rglob("*")
        if path.is_file()
    }
    is_private = hub.made.get("private") or hub.made.get("visibility") == "private"  # 1.x or 2.x
    assert (hub.made["name"], bool(is_private)) == ("best", private)
    assert (hub.message, hub.tokens) == ("t004 of a sweep", {"Bearer hf_of_a_test"})


def test_a_refusal_of_the_hub_is_said_with_what_is_there_and_how_to_try_again(
    hub: Hub, exported: Path
) -> None:
    hub.refuses = True
    with pytest.raises(SweepError) as raised:
        upload(exported, "ada/best", private=False, message="t004 of a sweep")
    said = str(raised.value)
    assert said.startswith("ada/best: the upload to the Hub failed: ")
    assert said.endswith(f"complete; to retry: hf upload ada/best {exported}")
    assert "hf_of_a_test" not in said


def test_a_connection_that_is_lost_leaves_word_of_the_complete_export(
    hub: Hub, exported: Path
) -> None:
    hub.hangs_up = True
    with pytest.raises(SweepError, match=r"to retry: hf upload ada/best /.* --private$"):
        upload(exported, "ada/best", private=True, message="t004 of a sweep")


def test_a_missing_token_is_said_before_anything_is_exported(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(
        UserError, match=r"no Hugging Face token; log in with `hf auth login`, or se"
    ):
        check_upload("ada/best")


def test_a_name_that_no_repository_can_have_is_refused(hub: Hub) -> None:
    with pytest.raises(UserError, match=r"--push-to-hub 'a/b/c': "):
        check_upload("a/b/c")
