"""What a local Ray instance gets here: a folder, a token, and only the processes that it needs.

Runs in the sweep process, for as long as that instance lives; ray 2.60. It must not know about
clusters that the sweep joins.
"""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants, services
from ray._private.node import Node
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from sweeps.ending_signals import held_back
from sweeps.environment import environment
from sweeps.workers.processes import setup_worker

NO_SPARES = {"RAY_prestart_worker_first_driver": "0"}
"""Otherwise Ray (2.60) at once starts a process for each CPU, but without the sweep's environment,
so the sweep could not use them."""
LONGEST_SOCKET = "/session_2026-11-28_07-41-05_123456_1234567/pymp-01234567/listener-01234567"
"""The longest path of a socket below Ray's folder."""
DASHBOARD = "--modules-to-load=StateHead"
"""Option with which Ray's dashboard (2.60) serves only the state API, which Train's cleaner of
placement groups asks about actors. The other modules are nine more processes, 160 MB in all."""
MONITORS = ("start_log_monitor", "start_monitor")
"""Methods of Ray's `Node` (2.60) that `own_processes` turns off."""
LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of the longest path of a Unix socket."""


@contextmanager
def folder() -> Iterator[str | None]:
    """Yield the folder for Ray's files; None: Ray's default.

    Ray's default is below `TMPDIR`, which on batch systems is often too long for a socket's path.
    Sockets of `multiprocessing` are there, too, so `TMPDIR` becomes a short link to the old place.
    """
    if len((get_default_ray_temp_dir() + LONGEST_SOCKET).encode()) <= LONGEST_PATH:
        yield None
        return
    # Its mode is 0700. Ray's agents may still be writing when it is deleted.
    with tempfile.TemporaryDirectory(
        prefix="sweeps-ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as short:
        link = Path(short, "tmp")
        link.symlink_to(tempfile.gettempdir())
        with environment({"TMPDIR": str(link)}):
            yield short


@contextmanager
def token() -> Iterator[None]:
    """Give Ray a token that is not in any file, unless the user has set one up.

    Ray would write a permanent one to the user's home, or fail if it cannot. If this process cannot
    leave Ray, because Ray has died, Ray keeps the token: its threads end a process without one.
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
        if not ray.is_initialized():
            known.reset_cache()


class _Service(services.ConsolePopen):
    """One of Ray's own processes: shielded from SIGTERM, and with few modules if the dashboard.

    The sweep needs these processes to end cleanly, and batch systems send SIGTERM to a process
    group, or to every process of a job. Ray itself shields its processes only from Ctrl-C, in the
    same way (ray 2.60, `start_ray_process`); to do so, it has Python fork with all hooks.
    """

    def __init__(self, command: Sequence[str], *args: Any, **others: Any) -> None:
        if any(word.endswith("/dashboard/dashboard.py") for word in command):
            command = [*command, DASHBOARD]
            # It is killed, so what `multiprocessing` has in the temporary folder would stay there.
            [session] = (w for w in command if w.startswith("--session-dir="))
            others["env"] = {**others["env"], "TMPDIR": session.partition("=")[2]}
        with held_back():
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                super().__init__(command, *args, start_new_session=True, **others)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def terminate(self) -> None:
        """End it and the processes that it has started, which are shielded, too."""
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self.pid).children(recursive=True)
            self.kill()
            for process in started:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@contextmanager
def own_processes() -> Iterator[None]:
    """Start Ray's own processes as a sweep needs them; see `_Service`.

    Its workers inherit the blocked signal; those that the process server forks unblock it. Two
    processes are not started (ray 2.60, `Node`): the log monitor, whose lines nobody reads
    (`log_to_driver`), and the autoscaler's monitor, which has nothing to scale.
    """
    popen, starts = services.ConsolePopen, {name: getattr(Node, name) for name in MONITORS}
    services.ConsolePopen = _Service
    for name in MONITORS:
        setattr(Node, name, lambda _: None)
    try:
        yield
    finally:
        services.ConsolePopen = popen
        for name, start in starts.items():
            setattr(Node, name, start)


@contextmanager
def quick_workers() -> Iterator[None]:
    """Start a Ray instance that sets up its workers without importing Ray (ray 2.60, `Node`)."""
    rays_own = ray_constants.SETUP_WORKER_FILENAME
    ray_constants.SETUP_WORKER_FILENAME = setup_worker.__file__  # absolute: Ray joins it to a path
    try:
        yield
    finally:
        ray_constants.SETUP_WORKER_FILENAME = rays_own
