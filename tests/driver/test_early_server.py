"""The process server that starts before the sweep process has imported anything."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import suppress

import psutil
import pytest

from sweeps.driver.early_server import head_start
from sweeps.driver.worker_variables import worker_variables
from sweeps.workers.processes.process_server import process_server


def servers() -> set[int]:
    """The ids of this process's process servers."""
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it is ending
            while not (command := child.cmdline()):
                pass  # Linux is about to execute it
            if "sweeps.workers.processes.process_server" in command:
                found.add(child.pid)
    return found


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # the session's cluster may be there
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_ray_gets_the_server_that_had_a_head_start() -> None:
    before = servers()
    with head_start(None, in_program=True):
        (early,) = servers() - before
        with process_server(worker_variables()):
            assert servers() - before == {early}
    assert servers() == before


def test_a_server_with_other_variables_takes_its_place() -> None:
    before = servers()
    with head_start(None, in_program=True):
        (early,) = servers() - before
        with process_server(worker_variables() | {"HF_HOME": "/elsewhere"}):
            (other,) = servers() - before
            assert other != early
        assert servers() == before


def test_a_sweep_that_joins_a_ray_starts_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    before = servers()
    with head_start("10.0.0.1:6379", in_program=True):
        assert servers() == before
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with head_start(None, in_program=True):
        assert servers() == before
    with head_start("local", in_program=True):
        assert len(servers() - before) == 1


def test_the_head_start_waits_for_no_import() -> None:
    text = "import sys; import sweeps.cli.main; print({'numpy', 'torch', 'ray'} & {*sys.modules})"
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize(("alone", "seed"), [(True, "0"), (False, "0"), (True, "")])
def test_the_server_is_forked_from_a_process_with_one_thread_and_a_hash_seed(
    alone: bool, seed: str
) -> None:
    """A thread holds locks that nobody would release in the forked process."""
    text = """
        import os, psutil, sys, threading
        from sweeps.driver.early_server import head_start
        from sweeps.hash_seed import has_hash_seed
        alone = len(sys.argv) == 1
        if not alone:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        with head_start(None):
            (server,) = psutil.Process().children()
            forked = alone and has_hash_seed()
            assert ("torch" in sys.modules) == forked
            # Their settings, such as HF_HOME, may be in the space, which is imported later.
            assert not {"datasets", "huggingface_hub", "transformers"} & set(sys.modules)
            assert (server.cmdline() == psutil.Process().cmdline()) == forked
        print(forked)
    """
    words = [] if alone else ["with a thread"]
    environment = {**os.environ, "RAY_ADDRESS": "local", "PYTHONHASHSEED": seed}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *words],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert ran.stdout == f"{alone and seed == '0'}\n", ran.stderr
