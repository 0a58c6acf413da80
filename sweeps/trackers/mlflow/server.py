"""MLflow's own server for a store, for as long as someone uses it.

The command line starts it in its own process group. It must not know sweeps.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from sweeps.errors import SweepError, UserError
from sweeps.ports import held_port
from sweeps.trackers.mlflow.sqlite_store import follow_move
from sweeps.trackers.mlflow.store import check_tracking, sqlite_file

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
"""It starts in 6 s on 2 free cores."""
STOP_TIMEOUT_S = 10.0
UNTIL_STDIN_ENDS = """
exec 3<&0
"$@" 3<&- & server=$!
(cat <&3 > /dev/null; kill $server) &
wait $server
kill 0
"""
"""Shell: run a command until it ends by itself or standard input does.

However this process ends, even by `kill -9` or with its terminal, its pipe to the shell closes.
"""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # four more processes, which are not needed here
}


@contextmanager
def serve(uri: str, storage: Path, port: int | None) -> Iterator[str]:
    """Yield the address of an MLflow server for the store; the server ends with the block.

    Args:
        uri: The store, which is a file.
        storage: The storage folder; the server's working folder.
        port: Where to listen on this machine; None: a free one.

    Raises:
        UserError: There is no store, or the port is in use.
        SweepError: The server does not start.
    """
    check_tracking(uri)
    path = sqlite_file(uri)
    if path is None or not path.exists():
        raise UserError(
            f"there is no MLflow store at {path} yet; the first sweep with `--tracker mlflow` (the"
            " default) creates it"
        )
    follow_move(uri, storage)
    with _held(port) as free, tempfile.TemporaryFile() as output:
        base_url = f"http://{HOST}:{free}"
        process = subprocess.Popen(
            [
                *("/bin/sh", "-c", UNTIL_STDIN_ENDS, "sh"),
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--backend-store-uri", uri, "--host", HOST, "--port", str(free)),
            ],
            cwd=storage,
            env={**os.environ, **SETTINGS},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            _wait_until_healthy(process, base_url, output)
            yield base_url
        finally:
            _end(process)


@contextmanager
def _held(port: int | None) -> Iterator[int]:
    """Yield the port, or any free one, which no other process gets meanwhile."""
    with ExitStack() as held:
        try:
            found = held.enter_context(held_port(HOST, port or 0))
        except OSError as error:
            raise UserError(
                f"port {port} on {HOST} is not available ({error.strerror}); choose another "
                "--port, or omit it to use a free one"
            ) from None
        yield found


def _wait_until_healthy(process: subprocess.Popen[bytes], base_url: str, output: IO[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{base_url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    output.seek(0)
    last = output.read().decode(errors="replace").strip().splitlines()[-20:]
    late = f"did not respond within {START_TIMEOUT_S:.0f} s"
    how = "exited" if process.poll() is not None else late
    raise SweepError("\n  ".join([f"the MLflow server {how}; last output:", *last]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and the workers it has started."""
    assert process.stdin is not None, "it was started with a pipe"
    process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
