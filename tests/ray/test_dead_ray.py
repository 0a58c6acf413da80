"""A sweep whose local Ray instance dies ends by itself, and a resume continues it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sweeps.answer.results import read_results
from sweeps.records.folder import find_sweep
from tests.conftest import SPACES
from tests.processes import AGENTS, left_behind, marked, marking

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]
VITAL = ("ray::RuntimeEnvAgent", "gcs_server")
"""How the command lines of two processes begin, or their programs are called: a raylet whose agent
has died ends itself and its workers."""


@pytest.mark.parametrize("vital", VITAL)
def test_a_sweep_whose_ray_dies_says_what_died_and_how_to_go_on(tmp_path: Path, vital: str):
    sweep = subprocess.Popen(
        [
            *(sys.executable, "-m", "sweeps", "run", str(SPACES / "curves.py")),
            *("--num-trials", "500", "--max-concurrent", "1", "--no-smoke"),
            *("--scheduler", "fifo", "--tracker", "tensorboard", "--storage", str(tmp_path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=marking(tmp_path),
        text=True,
    )
    assert sweep.stdout is not None
    while " finished" not in sweep.stdout.readline():
        assert sweep.poll() is None
    for process in marked(tmp_path):
        if process.is_running() and _is(process, vital):
            process.kill()
    told, died = sweep.communicate(timeout=60)
    assert sweep.returncode == 1
    results = read_results(find_sweep(tmp_path, "curves"))
    assert results.status == "interrupted"
    assert f"python -m sweeps resume {results.folder.id}" in told
    part = "GCS" if vital == "gcs_server" else "raylet"
    assert died.startswith(f"the sweep stops, because Ray's {part} at ")
    assert len(died.splitlines()) == 1
    assert not left_behind(tmp_path, but_for=AGENTS)


def _is(process: psutil.Process, vital: str) -> bool:
    title = process.cmdline()[0]
    return title.startswith(vital) or title.endswith(f"/{vital}")
