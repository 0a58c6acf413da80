"""What a Ray that the sweep starts needs from this machine: a port, a folder, a token, no SIGTERM.

Runs in the sweep process, while Ray starts and as long as it lives; ray 2.60. It must not know
clusters that are joined.
"""

from __future__ import annotations

import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from sweeps.driver.caller import environment
from sweeps.workers import setup_worker

NO_SPARES = {"RAY_prestart_worker_first_driver": "0"}
"""Otherwise Ray starts a process for each CPU at once (2.60), none with a sweep's environment, so
a sweep could use none."""
LONGEST_SOCKET = "/session_2026-11-28_07-41-05_123456_1234567/sockets/plasma_store"
"""The longest path of a socket below Ray's folder."""
LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of the longest path of a Unix socket."""


@contextmanager
def folder() -> Iterator[str | None]:
    """Yield where Ray's files go, None: where Ray puts them itself.

    That is below `TMPDIR`, which batch systems make too long for a socket's path. Sockets of
    `multiprocessing` lie there, too: so `TMPDIR` becomes a short link to where it was.
    """
    if len((get_default_ray_temp_dir() + LONGEST_SOCKET).encode()) <= LONGEST_PATH:
        yield None
        return
    # Its rights are 0700. Ray's agents may still be writing when it goes.
    with tempfile.TemporaryDirectory(
        prefix="sweeps-ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as short:
        link = Path(short, "tmp")
        link.symlink_to(tempfile.gettempdir())
        with environment({"TMPDIR": str(link)}):
            yield short


@contextmanager
def token() -> Iterator[None]:
    """Give Ray a token that stands in no file; one that the user has set up counts instead.

    Ray would write one to the user's home, for good, or fail where it cannot.
    """
    known = AuthenticationTokenLoader.instance()
    if known.has_token(ignore_auth_mode=True):
        yield
        return
    try:
        with environment({"RAY_AUTH_TOKEN": secrets.token_hex(32)}):
            known.reset_cache()
            yield
    finally:
        known.reset_cache()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port


class _Service(services.ConsolePopen):
    """One of Ray's own processes, which a SIGTERM does not end: the sweep needs it for a good end.

    Batch systems send SIGTERM to a process group, or to every process of a job. Ray shields its
    processes from Ctrl-C alone, in the same way (ray 2.60, `start_ray_process`).
    """

    def __init__(self, *args: Any, **others: Any) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            super().__init__(*args, start_new_session=True, **others)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def terminate(self) -> None:
        """End it with what it has started, which is shielded, too."""
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self.pid).children(recursive=True)
            self.kill()
            for process in started:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@contextmanager
def outlasting_sigterm() -> Iterator[None]:
    """Start Ray's own processes so that a SIGTERM to all processes does not end them.

    Its workers inherit the blocked signal; those that the process server forks unblock it.
    """
    popen = services.ConsolePopen
    services.ConsolePopen = _Service
    try:
        yield
    finally:
        services.ConsolePopen = popen


@contextmanager
def quick_workers() -> Iterator[None]:
    """Start a Ray that sets up its workers without importing Ray for it (ray 2.60, `Node`)."""
    rays_own = ray_constants.SETUP_WORKER_FILENAME
    ray_constants.SETUP_WORKER_FILENAME = setup_worker.__file__  # joined to a folder: absolute
    try:
        yield
    finally:
        ray_constants.SETUP_WORKER_FILENAME = rays_own
