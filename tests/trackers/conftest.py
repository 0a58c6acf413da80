"""One MLflow server for all tests that look through one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sweeps.config import default_tracking_uri
from sweeps.errors import UserError
from sweeps.trackers.mlflow.store import check_tracking
from tests.written_sweep import wait_for

SERVE = """
import signal, sys
from pathlib import Path
from sweeps.trackers.mlflow import serve, server

server.START_TIMEOUT_S = 600.0  # on a busy machine
with serve(sys.argv[1], Path(sys.argv[2]), None) as url:
    print(url, flush=True)
    signal.pause()
"""


@dataclass(frozen=True)
class Served:
    """A store, and the server on it."""

    url: str
    uri: str


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Served]:
    """Serve a store as `ui` does.

    Its process is killed at the end; then the server is gone.
    """
    storage = tmp_path_factory.mktemp("served")
    shutil.copyfile(empty_store, storage / "mlflow.db")
    uri = default_tracking_uri(storage)
    arguments = [sys.executable, "-c", SERVE, uri, str(storage)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert _addresses_of(int(url.rpartition(":")[2])) == {"127.0.0.1"}
            yield Served(url, uri)
        finally:
            process.kill()
    wait_for(lambda: not _answers(url))


def _addresses_of(port: int) -> set[str]:
    """Return where the processes below this one listen on a port."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found |= {
                connection.laddr.ip
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            }
    return found


def _answers(url: str) -> bool:
    try:
        check_tracking(url)
    except UserError:
        return False
    return True
