"""A sweep whose output nobody takes decides and ends like any other."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from sweeps.answer.results import read_results
from sweeps.records.folder import find_sweep
from tests.conftest import SPACES

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]
PIPE_BYTES = 4096
"""The smallest pipe: full after the first line."""


def test_output_that_is_not_read_or_cannot_be_written_does_not_stop_a_sweep(
    ray_cluster: None, tmp_path: Path
):
    reading, unread = os.pipe()
    fcntl.fcntl(unread, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    trials = {"unread": 2, "full": 1, "closed": 1}
    processes = {}
    with open("/dev/full", "w") as full, os.fdopen(unread, "w") as pipe:
        for name, stdout in (("unread", pipe), ("full", full), ("closed", None)):
            processes[name] = subprocess.Popen(
                [
                    *(("sh", "-c", 'exec "$@" >&-', "sh") if stdout is None else ()),
                    *(sys.executable, "-m", "sweeps", "run", str(SPACES / "curves.py")),
                    *("--num-trials", str(trials[name]), "--max-concurrent", "1", "--no-smoke"),
                    *("--scheduler", "fifo", "--storage", str(tmp_path / name)),
                    *("--address", ray.get_runtime_context().gcs_address),
                ],
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                text=True,
            )
        said = {name: process.communicate()[1] for name, process in processes.items()}
    assert said == {
        "unread": "nothing is reading stdout; to see the output it missed, run:"
        f" python -m sweeps results curves --storage {tmp_path / 'unread'}\n",
        "full": "cannot write to stdout (No space left on device);"
        " the sweep continues without it\n",
        "closed": "cannot write to stdout (it is closed); the sweep continues without it\n",
    }
    for name, process in processes.items():
        assert process.returncode == 0
        results = read_results(find_sweep(tmp_path / name, "curves"))
        assert results.status == "finished"
        assert len(results.history.trials) == trials[name]
    with os.fdopen(reading) as pipe:
        assert 0 < len(pipe.read()) <= PIPE_BYTES
