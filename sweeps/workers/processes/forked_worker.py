"""Turns a process that the process server has just forked into one of Ray's workers.

Runs in that process, which then runs the worker's program to its end. It must not import anything
but the standard library, and must not know how the server works.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import resource
import runpy
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn


def become(request: Mapping[str, Any]) -> NoReturn:
    """Run the worker's program in this process, and end it, as a new interpreter would."""
    os.setpgid(0, 0)  # Ray ends a worker's whole process group (2.60)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    _outlast_sigterm()
    os.umask(request["umask"])
    os.chdir(request["folder"])
    for name, limits in request["limits"].items():
        resource.setrlimit(getattr(resource, name), limits)
    os.setpriority(os.PRIO_PROCESS, 0, request["priority"])
    Path("/proc/self/oom_score_adj").write_text(request["oom_score"])
    libraries = [part for part in sys.path if part not in _python_path()]
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = list(request["command"])
    sys.path = [str(Path(sys.argv[0]).parent), *_python_path(), *libraries]
    code: object = None
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    _leave(code)


def _leave(code: object) -> NoReturn:
    """Wait for threads, run exit handlers, flush open files, and end this process.

    `sys.exit` would also free all modules, which copies the memory that they share with the server.
    """
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    opened = [each for each in gc.get_objects() if issubclass(type(each), io.IOBase)]
    for file in [*opened, sys.stdout, sys.stderr]:
        with suppress(OSError, ValueError):
            file.flush()
    os._exit(code if isinstance(code, int) else code is not None)


def _outlast_sigterm() -> None:
    """Let SIGTERM end the children of this worker, but not the worker itself.

    The sweep process ends the worker. Batch systems send SIGTERM to every process. The worker
    inherits the blocked signal from Ray's own processes, but its children must not
    (`Pool.terminate`).
    """
    sigterm = {signal.SIGTERM}

    def shield(_: object = None) -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)

    def forked() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, sigterm)

    shield()
    # Ray sets its own handler later (2.60, `worker.main_loop`).
    rays: Any = importlib.import_module("ray._private.utils")
    rays.set_sigterm_handler = shield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, sigterm)
    os.register_at_fork(
        # A signal that arrives before `forked` would be lost.
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, sigterm),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, sigterm),
        after_in_child=forked,
    )


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
