"""A sweep whose output nobody reads decides and ends like any other.

How a process ends whose output cannot be written: `tests/driver/test_followers.py`.
"""

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


def test_output_that_is_not_read_does_not_stop_a_sweep(ray_cluster: None, tmp_path: Path):
    reading, unread = os.pipe()
    fcntl.fcntl(unread, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with os.fdopen(unread, "w") as pipe:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "sweeps", "run", str(SPACES / "curves.py")),
                *("--num-trials", "2", "--max-concurrent", "1", "--no-smoke"),
                *("--scheduler", "fifo", "--tracker", "tensorboard", "--storage", str(tmp_path)),
                *("--address", ray.get_runtime_context().gcs_address),
            ],
            stdout=pipe,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            text=True,
        )
    assert (done.returncode, done.stderr) == (
        0,
        "nothing is reading stdout; to see the missed output, run: python -m sweeps results"
        f" curves --storage {tmp_path}\n",
    )
    results = read_results(find_sweep(tmp_path, "curves"))
    assert results.status == "finished"
    assert len(results.history.trials) == 2
    with os.fdopen(reading) as pipe:
        assert 0 < len(pipe.read()) <= PIPE_BYTES
