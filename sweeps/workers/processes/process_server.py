"""Forks Ray's worker processes from one process that has already imported the libraries.

Importing torch, transformers, datasets and Ray takes a worker six seconds of CPU time, and the
controller of its group three. Forked, they share those imports and their memory. The server itself
is forked from the sweep process where that is possible, and is a new process otherwise. It runs on
the same machine as the sweep process, and ends with it. It must not import a user's code, start a
thread, touch a GPU or draw a Ray id: none of these survives a fork.

Linux only: it reads a worker's state from /proc and waits for it with a pidfd.

numpy has only one thread (OpenBLAS) in a forked worker, and in a sweep process that has forked the
server; PyTorch's threads follow `OMP_NUM_THREADS`.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

from sweeps.ending_signals import ENDING, held_back
from sweeps.workers.processes import process_launcher
from sweeps.workers.processes.forked_worker import become

ALONE = {"OPENBLAS_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Environment of the imports: numpy starts no threads, torch does not initialise a GPU."""
SHARED = "torch"
"""Imported by a sweep process before it forks the server. Hugging Face's libraries are not, since a
space may set variables that they read on import (`HF_HOME`). Also, a refusal would come later."""
LIBRARIES = (SHARED, "datasets", "evaluate", "transformers.trainer")
"""Imported by the server before Ray."""
LATE = "bitsandbytes"
"""Its code initialises CUDA, so it only runs once a worker uses it. `transformers` imports peft,
which imports it if it is installed (bitsandbytes 0.50, peft 0.21)."""
RAYS = ("ray", "ray.train.torch", "ray.tune")
"""Imported with the environment of the first worker: Ray reads its settings on import (2.60)."""
TITLE = "sweeps process server"
"""What `ps` shows once Ray is imported; before, a forked server looks like the sweep process."""


@dataclass(frozen=True)
class _Early:
    """A server that was started before it is needed."""

    variables: Mapping[str, str]
    command: str
    end: Callable[[], None]


_early: list[_Early] = []
"""The server that `early_process_server` has started and that is not in use yet, if any."""


@contextmanager
def process_server(variables: Mapping[str, str]) -> Iterator[str]:
    """Yield the command that Ray starts a worker with, its `py_executable`.

    Uses the early server if it has the same variables; otherwise ends it and starts another.

    Args:
        variables: Environment variables of the workers, for modules that read them on import.
    """
    early = _early.pop() if _early else None
    if early is not None and early.variables == variables:
        yield early.command
        return
    if early is not None:
        early.end()
    with _started(variables, _spawned) as command:
        yield command


@contextmanager
def early_process_server(variables: Mapping[str, str], *, forks: bool) -> Iterator[None]:
    """Start the server for `process_server`, before this process imports the libraries.

    Args:
        variables: Environment variables of the workers.
        forks: Whether to import `SHARED` here, and fork the server; otherwise, it is a new process.
            This process must have one thread, and must not have run a user's code.
    """
    start = _forked if forks and _can_import(variables) else _spawned
    with ExitStack() as started:
        command = started.enter_context(_started(variables, start))
        _early.append(_Early(dict(variables), command, started.close))
        try:
            yield
        finally:
            _early.clear()


Start = Callable[[socket.socket, Mapping[str, str]], Callable[[], None]]
"""Starts a server that listens there, with variables; returns what ends it."""


@contextmanager
def _started(variables: Mapping[str, str], start: Start) -> Iterator[str]:
    """Start a server; yield the command of its workers."""
    # In /tmp, since the path of a socket must be short; accessible only to this user. Each forked
    # worker would delete a `TemporaryDirectory` at its end.
    folder = tempfile.mkdtemp(prefix="sweeps-", dir="/tmp")
    try:
        path = Path(folder) / "processes"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(128)
            end = start(listener, variables)
        try:
            launcher = [sys.executable, "-I", "-S", process_launcher.__file__, str(path)]
            yield shlex.join(launcher)
        finally:
            end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _can_import(variables: Mapping[str, str]) -> bool:
    """Import `SHARED` in this process; tell whether that was possible."""
    with _as_in_the_server(variables), suppress(Exception):
        importlib.import_module(SHARED)
        return True
    return False


def _spawned(listener: socket.socket, variables: Mapping[str, str]) -> Callable[[], None]:
    """Start the server as a new process, which imports the libraries itself."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __spec__.name, str(listener.fileno())],
        stdin=subprocess.PIPE,  # closes when this process ends, however it ends
        stdout=subprocess.DEVNULL,
        env={**os.environ, **variables, **ALONE},
        pass_fds=[listener.fileno()],
        start_new_session=True,  # not affected by Ctrl-C in the sweep's terminal
    )

    def end() -> None:
        process.kill()
        process.communicate()

    return end


def _forked(listener: socket.socket, variables: Mapping[str, str]) -> Callable[[], None]:
    """Fork the server from this process, which has imported `SHARED`."""
    wanted, kept_open = os.pipe()  # closes when this process ends, however it ends
    with held_back():
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        server = _fork()
        if not server:
            try:
                _detach(listener, wanted)
                signal.pthread_sigmask(signal.SIG_SETMASK, signals)
                _set_up(variables)
                _run(listener)
            except BaseException as error:
                sys.excepthook(type(error), error, error.__traceback__)
            finally:
                os._exit(1)  # this process must not go on as a second sweep process
        process = os.pidfd_open(server)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    os.close(wanted)

    def end() -> None:
        os.close(kept_open)
        with suppress(ProcessLookupError, ChildProcessError):  # SIGCHLD may be ignored
            signal.pidfd_send_signal(process, signal.SIGKILL)
            os.waitpid(server, 0)
        os.close(process)

    return end


def _set_up(variables: Mapping[str, str]) -> None:
    """Set the environment and the import path that `_spawned` gives the server."""
    os.environ.update({**variables, **ALONE})
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder (`python -m`), or that of the program


@contextmanager
def _as_in_the_server(variables: Mapping[str, str]) -> Iterator[None]:
    """Import as the server would; restore the environment and the import path on exit."""
    before, path = dict(os.environ), list(sys.path)
    _set_up(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path


def _detach(listener: socket.socket, wanted: int) -> None:
    """Give a forked server the session, handlers and files that `_spawned` gives it.

    Args:
        listener: Stays open.
        wanted: Becomes stdin.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # forgets a Ctrl-C that came before
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.dup2(wanted, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number != listener.fileno():
            with suppress(OSError):  # the listing's own
                os.close(number)
    # The sweep process hides secrets in its own streams, and notices when they fail.
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdin = os.fdopen(0, encoding=encoding, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, errors=errors, closefd=False)
    sys.stderr = os.fdopen(
        2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False
    )
    sys.excepthook = sys.__excepthook__


def main() -> None:
    """Serve until the sweep process ends, or become a worker."""
    _run(socket.socket(fileno=int(sys.argv[1])))


def _run(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # avoids zombies
    request = _serve(listener) if _is_ready() else None
    if request is not None:
        become(request)
    # A killed sweep process leaves its folder.
    shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)


class _Late(PathFinder):
    """Finds `LATE` so that its code runs only when its first attribute is read."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = super().find_spec(fullname, path, target) if fullname == LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def _is_ready() -> bool:
    """Import the libraries; tell whether workers can be forked and are still wanted."""
    sys.meta_path.insert(0, _Late)
    for library in LIBRARIES:
        if sys.stdin in select.select([sys.stdin], [], [], 0)[0]:
            return False
        importlib.import_module(library)
    sys.meta_path.remove(_Late)
    return not sys.modules["torch"].cuda.is_initialized()  # a library may initialise CUDA


def _fork() -> int:
    """Fork this process; return the id of the new one, and 0 in the new one."""
    # The only other thread is pyarrow's jemalloc thread, which supports forks; Python 3.12 warns
    # about any thread.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return os.fork()


def _serve(listener: socket.socket) -> dict[str, Any] | None:
    """Fork for each request.

    Return the request in the new process, and None at the end in this one.
    """
    prepared = False
    generators: list[Random] = []
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return None
        connection, _ = listener.accept()
        with connection:
            received = _receive(connection)
            if received is None:
                continue
            request, files = received
            if not prepared:
                os.environ.update(request["environment"])
                _import_ray()
                importlib.import_module("ray._raylet").setproctitle(TITLE)
                gc.collect()
                generators = [each for each in gc.get_objects() if issubclass(type(each), Random)]
                gc.freeze()  # a collection in a worker does not copy these pages
                prepared = True
            pid = _fork()
            if pid:
                for file in files:
                    os.close(file)
                with suppress(OSError):  # the launcher is gone; Ray rejects the worker
                    connection.sendall(pid.to_bytes(8, "big"))
                continue
        for generator in generators:  # Python itself reseeds only `random` after a fork
            generator.seed()
        sys.modules["numpy"].random.seed()
        listener.close()
        for target, file in enumerate(files):
            os.dup2(file, target)
            os.close(file)
        return request


def _import_ray() -> None:
    """Import Ray, Train and Tune, without a draw from Ray's own random generator.

    They name their actor classes by such draws. All workers would inherit the generator, and draw
    the same ids from then on, which ends Ray's actors (2.60).
    """
    actor: Any = importlib.import_module("ray.actor")
    drawn = actor.ActorClassID
    actor.ActorClassID = SimpleNamespace(from_random=lambda: drawn(os.urandom(drawn.size())))
    try:
        for library in RAYS:
            importlib.import_module(library)
    finally:
        actor.ActorClassID = drawn


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return a request and the worker's first three files; None if the launcher is gone."""
    try:
        size, files, _, _ = socket.recv_fds(connection, 8, 3)
        text = connection.makefile("rb").read(int.from_bytes(size, "big"))
        return json.loads(text), files
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()
