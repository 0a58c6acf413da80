"""No secret of the environment stands in anything that a sweep writes or says; workers have them.

And nobody else comes in: Ray's dashboard listens on the loopback address, and asks for a token.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import pytest
import ray

from tests.conftest import SPACES, CommandLine

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
PLANTED = {
    "HF_TOKEN": "hf_planted0123456789planted0123456789",
    "AWS_SECRET_ACCESS_KEY": "pLanted/with+signs=and'quotes\"0123",
    "MLFLOW_TRACKING_PASSWORD": "planted p@ss:word\\",
    "THEIR_API_KEY": "planted-in-a-name-of-their-own",
}
IN_THE_URI = "lovelace-1815"


def spellings() -> Iterator[bytes]:
    """Every way in which a planted secret might stand in a file."""
    for value in (*PLANTED.values(), IN_THE_URI):
        for text in {value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}:
            yield text.encode()
        yield base64.b64encode(value.encode()).rstrip(b"=")


def files_with_secrets(folder: Path) -> list[str]:
    needles = list(spellings())
    return [
        f"{path}: {[n for n in needles if n in content]}"
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
        for content in [path.read_bytes()]
        if any(needle in content for needle in needles)
    ]


def test_a_trial_that_says_its_secrets_leaves_none_of_them_in_files_output_ray_or_mlflow(
    ray_cluster: None, forks: dict[str, str], tmp_path: Path, command_line: CommandLine
):
    sys.path.insert(0, str(SPACES))
    from leaks import fingerprint

    storage = tmp_path / "results"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sweeps", "run", str(SPACES / "leaks.py")),
            f"known_as={fingerprint(list(PLANTED.values()))}",
            *("--num-trials", "2", "--max-concurrent", "1", "--scheduler", "fifo"),
            *("--max-failures", "0", "--storage", str(storage)),
            # Its workers are started by a Ray cluster that has none of the variables.
            *("--address", ray.get_runtime_context().gcs_address),
        ],
        env={**os.environ, **PLANTED, **forks},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    results = json.loads(command_line("results", "leaks", "--json").out)
    # The workers had them all: the trial compared them.
    assert results["best"]["value"] == 1.0
    assert {t["trial"]: t["failure"] for t in results["trials"]} == {"t001": "error", "t002": None}
    # The exception was told in all places where people look, without the secrets.
    folder = next(storage.glob("leaks-*"))
    traceback = (folder / "logs" / "t001-attempt1.traceback").read_text()
    assert "ValueError: refused: these are ['***', '***', '***', '***']" in traceback
    assert "https://***@tracking.example/" in traceback
    assert "ValueError: refused: these are ['***'" in said
    workers = "".join(path.read_text() for path in folder.glob("logs/group*-rank0.log"))
    assert len(re.findall(r"\*\*\* \*\*\* \*\*\* \*\*\*", workers)) >= 2
    with closing(sqlite3.connect(storage / "mlflow.db")) as store:
        tags = dict(store.execute("select key, value from tags where key = 'sweep.error'"))
    assert tags["sweep.error"].startswith("rank 0: ValueError: refused: these are ['***'")
    # And nowhere does one stand.
    assert [needle for needle in spellings() if needle.decode() in said] == []
    assert files_with_secrets(tmp_path) == []
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    assert list((session / "logs" / "train").glob("ray-train-app-worker-*.log"))
    assert files_with_secrets(session) == []


def test_rays_dashboard_listens_on_the_loopback_address_and_asks_for_a_token(ray_cluster: None):
    node = ray._private.worker._global_node
    assert node.webui_url.split(":")[0] == "127.0.0.1"
    listening = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    listening.add((connection.laddr.ip, connection.laddr.port))
    port = urlsplit(f"//{node.webui_url}").port
    assert [ip for ip, open_port in listening if open_port == port] == ["127.0.0.1"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{node.webui_url}/api/jobs/", timeout=10)
    assert refused.value.code in (401, 403)
