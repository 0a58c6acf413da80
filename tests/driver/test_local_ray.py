"""What a local Ray needs from the machine, without starting one."""

import gc
import inspect
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray._private import node, services
from ray._private.utils import validate_socket_filepath
from ray._raylet import AuthenticationTokenLoader
from ray.train.v2._internal.constants import WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR

from sweeps.config import SweepConfig
from sweeps.driver import cluster, local_ray
from sweeps.errors import SweepError
from sweeps.workers.watch import FROZEN_S
from tests.processes import END_S

STARTS_ANOTHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_ray_train_waits_for_a_worker_as_long_as_the_sweep_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its own limit is ten minutes."""
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for stall_timeout_s in (10.0, 3600.0):
        config = SweepConfig(stall_timeout=timedelta(seconds=stall_timeout_s))
        with cluster.connected(None, tmp_path, config):
            limit_s = float(os.environ[WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR])
        # The watch, which can write the stacks, comes first.
        assert stall_timeout_s + FROZEN_S < limit_s < stall_timeout_s + 2 * FROZEN_S


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has the process server")
def test_sigterm_ends_none_of_rays_processes_and_their_end_ends_what_they_started():
    with local_ray.own_processes():
        service = services.ConsolePopen(
            [sys.executable, "-c", STARTS_ANOTHER], stdout=subprocess.PIPE, text=True
        )
    child = psutil.Process(int(service.stdout.readline()))
    assert os.getsid(service.pid) == service.pid, "Ctrl-C in the terminal is not for it"
    for pid in (service.pid, child.pid):
        os.kill(pid, signal.SIGTERM)
    assert service.poll() is None
    assert child.is_running()
    service.terminate()
    assert service.wait(END_S) == -signal.SIGKILL, "SIGTERM is blocked"
    child.wait(END_S)
    service.stdout.close()
    assert services.ConsolePopen is not local_ray._Service
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_signal_while_one_of_rays_processes_is_started_arrives_afterwards():
    """Python would drop it in a hook for forks, and what the hook has locked would stay locked."""
    over = threading.Event()  # the thread that waits for it can receive the signal, too
    pressed: list[int] = []

    def press() -> None:
        while pressed:
            os.kill(os.getpid(), pressed.pop())

    os.register_at_fork(after_in_parent=press)  # for good, but it does nothing later
    before = {n: signal.signal(n, signal.default_int_handler) for n in SIGNALS}
    threading.Thread(target=over.wait, daemon=True).start()
    try:
        for number in SIGNALS:
            pressed.append(number)
            with local_ray.own_processes(), pytest.raises(KeyboardInterrupt):
                services.ConsolePopen([sys.executable, "-c", ""], preexec_fn=lambda: None)
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def test_rays_dashboard_starts_with_one_module_and_keeps_its_files_in_rays_folder(
    tmp_path: Path,
) -> None:
    """Train's cleaner needs that one: see `test_faults.py`, where a controller is killed."""
    program = tmp_path / "dashboard" / "dashboard.py"
    program.parent.mkdir()
    program.write_text("import os, sys; print(*sys.argv[1:], os.environ['TMPDIR'])")
    words = ["--port=1", "--session-dir=/ray/session"]
    with local_ray.own_processes():
        service = services.ConsolePopen(
            [sys.executable, str(program), *words],
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            text=True,
        )
    assert service.communicate()[0].split() == [*words, local_ray.DASHBOARD, "/ray/session"]


def test_a_long_tmpdir_gives_ray_a_short_folder_of_its_own_and_becomes_a_short_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    long = tmp_path / (125 * "x")
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(OSError, match="AF_UNIX path length"):
        validate_socket_filepath(f"{long}/ray{local_ray.LONGEST_SOCKET}")
    with local_ray.folder() as folder:
        assert folder is not None
        validate_socket_filepath(folder + local_ray.LONGEST_SOCKET)
        assert Path(folder).stat().st_mode & 0o777 == 0o700, "for this user alone"
        listens = "import multiprocessing.connection as c; c.Listener(family='AF_UNIX').close()"
        subprocess.run([sys.executable, "-c", listens], check=True)
        Path(os.environ["TMPDIR"], "of a trial").write_text("")
    assert not Path(folder).exists()
    assert (long / "of a trial").exists()
    assert os.environ["TMPDIR"] == str(long)
    monkeypatch.setenv("TMPDIR", "/tmp")
    with local_ray.folder() as folder:
        assert folder is None


def test_a_token_is_made_in_memory_and_one_that_the_user_has_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    known = AuthenticationTokenLoader.instance()
    known.reset_cache()
    with local_ray.token():
        assert known.get_raw_token(ignore_auth_mode=True) == os.environ["RAY_AUTH_TOKEN"]
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert not known.has_token(ignore_auth_mode=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("the user's own")
    known.reset_cache()
    with local_ray.token():
        assert known.get_raw_token(ignore_auth_mode=True) == "the user's own"
        assert "RAY_AUTH_TOKEN" not in os.environ
    known.reset_cache()


def test_ray_keeps_its_token_if_this_process_cannot_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its threads still call the GCS, and end the process if there is none (ray 2.60)."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    known = AuthenticationTokenLoader.instance()
    known.reset_cache()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with local_ray.token():
        token = known.get_raw_token(ignore_auth_mode=True)
    assert known.get_raw_token(ignore_auth_mode=True) == token
    known.reset_cache()


def test_ray_is_left_without_handles_that_another_thread_could_free(
    monkeypatch: pytest.MonkeyPatch,
):
    """A round is part of a cycle; collected in the middle of a shutdown it ends the process."""
    gc.enable()  # a test of `plan` may have left it off

    class Round: ...

    found: list[tuple[object, bool]] = []
    cycle = Round()
    cycle.itself = cycle  # type: ignore[attr-defined]
    handle = weakref.ref(cycle)
    monkeypatch.setattr(ray, "shutdown", lambda: found.append((handle(), gc.isenabled())))
    del cycle
    cluster._leave()
    assert found == [(None, False)]
    assert gc.isenabled()


def test_a_ray_that_does_not_start_in_time_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def init(**_: Any) -> None:
        raise Exception("The current node timed out during startup. This could happen because …")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(SweepError, match=r"^Ray did not start within 30 s, .* again$"):
        cluster._init({"address": "local"}, {})
    source = inspect.getsource(node)
    assert "raylet_start_wait_time_s = 30\n" in source, "Ray's own words and time"
    assert '"The current node timed out during startup. This "' in source
