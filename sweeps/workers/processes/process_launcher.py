"""Asks the process server to fork one of Ray's worker processes, and lives as long as that process.

Ray runs this file in place of Python: `process_launcher.py SOCKET default_worker.py …`. The worker
inherits everything from this process that a new process would. If no server answers, this process
becomes the worker: the only difference is a slower start. It must not import anything but the
standard library, since it starts a dozen times a sweep.
"""

import json
import os
import resource
import select
import signal
import socket
import sys


def main() -> None:
    """Start the worker and wait for its end."""
    path, *command = sys.argv[1:]
    worker = _fork(path, command)
    if worker is None:
        # SIGTERM is blocked only for Ray's own processes (`driver/local_ray.py`).
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.execv(sys.executable, [sys.executable, *command])
    try:
        end = select.poll()
        end.register(os.pidfd_open(worker), select.POLLIN)
        end.poll()
    except ProcessLookupError:
        pass


def _fork(path: str, command: list[str]) -> int | None:
    """Return the id of the worker's process; None if there is no server."""
    request = json.dumps(_surroundings(command)).encode()
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(path)
            socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
            server.sendall(request)
            answer = server.recv(8)
    except OSError:
        return None
    return int.from_bytes(answer, "big") if answer else None


def _surroundings(command: list[str]) -> dict[str, object]:
    """Return what the worker inherits."""
    umask = os.umask(0)
    os.umask(umask)
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    with open("/proc/self/oom_score_adj") as file:
        oom_score = file.read()
    return {
        "command": command,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": umask,
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in names},
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score": oom_score,
        "ignored": [
            int(number)
            for number in signal.valid_signals()
            if signal.getsignal(number) is signal.SIG_IGN
        ],
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    }


if __name__ == "__main__":
    main()
