"""Worker processes forked from one that has imported the libraries are like those Ray starts."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.workers.processes.process_launcher import _surroundings
from sweeps.workers.processes.process_server import process_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")

DESCRIBE = """
    import json, os, resource, signal, sys, threading
    sys.stderr.write("said on stderr")
    print(json.dumps({
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "oom_score": open("/proc/self/oom_score_adj").read(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "umask": os.umask(0),
        "ignored": signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN,
        "blocked": signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "leader": os.getpgrp() == os.getpid(),
        "threads": threading.active_count(),
        "forked": {"ray.train", "torch", "transformers.trainer", "datasets"} <= set(sys.modules),
        "gpu": "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized(),
        "name": __name__,
        "path": sys.path,
        "open": sorted(os.listdir("/proc/self/fd")),
    }))
"""


TOUCHES_GPU = """
    import os, torch
    torch.cuda.is_initialized = lambda: True
    RUN_BY = os.getpid()
"""


HOST = """
    import sys
    from sweeps.workers.processes.process_server import early_process_server, process_server
    with early_process_server({}, forks=sys.argv[1] == "forked"), process_server({}) as command:
        print(command, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module", params=["spawned", "forked"])
def python(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The command of a server that has forked nothing yet, in a process of its own.

    bitsandbytes is installed for it, and initialises CUDA as soon as its code runs.
    """
    folder = tmp_path_factory.mktemp("installed")
    (folder / "bitsandbytes.py").write_text(textwrap.dedent(TOUCHES_GPU))
    with subprocess.Popen(
        [sys.executable, script(tmp_path_factory.mktemp("host"), HOST), request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{folder}:{os.getcwd()}"},
    ) as host:
        assert host.stdout is not None
        command = host.stdout.readline().strip()
        yield command
        host.communicate()
    assert host.returncode == 0
    assert not Path(command.split()[-1]).parent.exists(), "the server's folder is left behind"


def script(folder: Path, text: str) -> str:
    path = folder / "worker.py"
    path.write_text(textwrap.dedent(text))
    return str(path)


def start(python: str, *words: str, **others: object) -> subprocess.Popen[str]:
    """Start a worker as Ray does: from bash, in place of it."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        ["bash", "-c", f"{others.pop('first', '')} exec {python} {' '.join(words)}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **others,
    )


def test_a_forked_worker_takes_over_what_a_process_has(python: str, tmp_path: Path) -> None:
    """One that Ray starts has each of these from the process that starts it."""
    worker = start(
        python,
        script(tmp_path, DESCRIBE),
        "--one 'two words'",
        first="umask 027; ulimit -Sn 200; trap '' USR1; echo 300 >/proc/self/oom_score_adj; ",
        cwd=tmp_path,
        env={**os.environ, "ONLY_HERE": "yes", "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"},
        preexec_fn=lambda: (os.nice(3), signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])),
    )
    out, err = worker.communicate()
    seen = json.loads(out)
    assert err == "said on stderr"
    assert seen["forked"]
    assert seen["name"] == "__main__"
    assert not seen["gpu"]
    assert seen["arguments"] == ["--one", "two words"]
    assert seen["folder"] == str(tmp_path)
    assert seen["environment"]["ONLY_HERE"] == "yes"
    assert "OPENBLAS_NUM_THREADS" not in seen["environment"], "that is the server's"
    alone = subprocess.run(
        [sys.executable, script(tmp_path, DESCRIBE)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"},
    )
    path = json.loads(alone.stdout)["path"]
    assert seen["path"][:2] == path[:2]
    assert [part for part in seen["path"] if part in path] == path, "imports add to it"
    assert seen["priority"] == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    assert seen["oom_score"].strip() == "300"
    assert seen["files"][0] == 200
    assert seen["umask"] == 0o027
    assert seen["ignored"]
    assert seen["blocked"]
    assert seen["leader"], "what ends one worker's process group must not end another's"
    assert seen["threads"] == 1
    assert seen["open"] == ["0", "1", "2", "3"], "3 is the listing's own"


def test_a_library_that_touches_a_gpu_on_import_runs_in_the_worker(
    python: str, tmp_path: Path
) -> None:
    """A process cannot use a GPU that another one initialised before the fork."""
    text = """
        import os, sys, peft.helpers, torch
        print(torch.cuda.is_initialized(), peft.helpers.bnb.RUN_BY == os.getpid())
        print(torch.cuda.is_initialized())
    """
    out, _ = start(python, script(tmp_path, text)).communicate()
    assert out.split() == ["False", "True", "True"]


def test_the_starter_lives_as_long_as_its_worker(python: str, tmp_path: Path) -> None:
    worker = start(python, script(tmp_path, "import os; print(os.getpid(), flush=True); input()"))
    assert worker.stdout is not None
    forked = int(worker.stdout.readline())
    assert forked != worker.pid
    assert worker.poll() is None
    os.kill(forked, signal.SIGKILL)
    assert worker.wait() == 0


def test_no_worker_draws_the_random_numbers_of_another(python: str, tmp_path: Path) -> None:
    """Two tasks with one id end Ray's actors, and ids are drawn (ray 2.60)."""
    text = """
        import random, uuid, numpy, ray
        from datasets.fingerprint import generate_random_fingerprint
        print(random.random(), uuid.uuid4(), numpy.random.rand(), ray.ActorClassID.from_random())
        print(generate_random_fingerprint(), ray.NodeID.from_random())
    """
    draws = [start(python, script(tmp_path, text)).communicate()[0].split() for _ in range(2)]
    assert len(draws[0]) == 6
    assert not set(draws[0]) & set(draws[1])


def test_sigterm_ends_what_a_worker_starts_and_not_the_worker(python: str, tmp_path: Path) -> None:
    """Ray blocks the signal in what starts workers, and sets a handler of its own in them."""
    text = """
        import multiprocessing, os, signal, subprocess, sys, time
        from ray._private.utils import set_sigterm_handler
        set_sigterm_handler(lambda *_: sys.exit(1))
        def kinds():
            yield subprocess.Popen(["sleep", "60"])
            for kind in ("fork", "spawn"):
                yield multiprocessing.get_context(kind).Process(target=time.sleep, args=(60,))
        if __name__ == "__main__":
            os.kill(os.getpid(), signal.SIGTERM)
            for child in kinds():
                if isinstance(child, multiprocessing.process.BaseProcess):
                    child.start()
                child.terminate()
                print(child.join() or child.exitcode if hasattr(child, "join") else child.wait())
    """
    worker = start(
        python,
        script(tmp_path, text),
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
    )
    assert worker.communicate() == ("-15\n-15\n-15\n", "")


def test_without_a_server_a_worker_starts_all_the_same(tmp_path: Path) -> None:
    with process_server({}) as command:
        pass
    out, err = start(command, script(tmp_path, DESCRIBE), "a").communicate()
    assert json.loads(out)["arguments"] == ["a"], err
    assert not json.loads(out)["forked"]


def test_a_launcher_that_is_gone_does_not_end_the_server(python: str, tmp_path: Path) -> None:
    path = python.split()[-1]
    with socket.socket(socket.AF_UNIX) as gone:
        gone.connect(path)
        request = json.dumps(_surroundings([script(tmp_path, "pass")])).encode()
        socket.send_fds(gone, [len(request).to_bytes(8, "big")], [0, 1, 2])
        gone.sendall(request)
    out, _ = start(python, script(tmp_path, DESCRIBE)).communicate()
    assert json.loads(out)["forked"]


def test_an_error_ends_a_worker_with_its_traceback(python: str, tmp_path: Path) -> None:
    out, err = start(python, script(tmp_path, "print('begun'); 1 / 0")).communicate()
    assert out == "begun\n"
    assert "line 1, in <module>" in err
    assert err.endswith("ZeroDivisionError: division by zero\n")


def test_a_worker_waits_for_its_threads_and_cleans_up_at_its_end(
    python: str, tmp_path: Path
) -> None:
    text = """
        import atexit, os, sys, threading, time
        atexit.register(lambda: print(os.environ["ONLY_HERE"]))
        threading.Timer(0.2, lambda: print("thread")).start()
        sys.exit("message")
    """
    worker = start(python, script(tmp_path, text), env={**os.environ, "ONLY_HERE": "cleaned up"})
    assert worker.communicate() == ("thread\ncleaned up\n", "message\n")


@pytest.mark.parametrize("kind", ["spawned", "forked"])
def test_a_server_ends_with_the_process_that_started_it(kind: str, tmp_path: Path) -> None:
    """Killed as well: nothing is left behind."""
    text = """
        import os, signal, sys
        from sweeps.workers.processes.process_server import early_process_server, process_server
        with early_process_server({}, forks=sys.argv[1] == "forked"), process_server({}) as command:
            print(command.split()[-1])
            children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
            print(*children, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run(
        [sys.executable, script(tmp_path, text), kind], capture_output=True, text=True
    )
    assert ended.returncode == -signal.SIGKILL
    path, word = ended.stdout.split()
    server = int(word)
    with contextlib.suppress(ProcessLookupError):
        end = select.poll()
        end.register(os.pidfd_open(server), select.POLLIN)
        assert end.poll(30_000), "it still runs"
    assert not Path(path).parent.exists()


def test_a_forked_server_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """Environment, import path and signal handlers; Ctrl-C on the terminal spares the server."""
    text = """
        import os, signal, sys
        from sweeps.workers.processes.process_server import early_process_server
        def state():
            handlers = [signal.getsignal(number) for number in signal.valid_signals()]
            masked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            return dict(os.environ), list(sys.path), handlers, masked
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        before = state()
        with early_process_server({"HF_HOME": "/elsewhere"}, forks=True):
            assert state() == before
            (server,) = open(f"/proc/self/task/{os.getpid()}/children").read().split()
            while os.getsid(int(server)) != int(server):
                pass
            print("done")
    """
    ran = subprocess.run([sys.executable, script(tmp_path, text)], capture_output=True, text=True)
    assert ran.stdout == "done\n", ran.stderr
