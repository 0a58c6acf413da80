"""A sweep in a process that is connected to Ray already, as a notebook is."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray

from sweeps.driver import cluster
from tests.conftest import SPACES, RunSweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def test_workers_get_the_helper_module_and_the_variables_though_ray_has_no_working_folder_of_ours(
    run_sweep: RunSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_SWEEPS_TEST", "passed on")
    put, puts = ray.put, []
    monkeypatch.setattr(ray, "put", lambda *what, **how: puts.append(what) or put(*what, **how))
    shutil.copy(SPACES / "curves.py", tmp_path / "beside_me.py")
    space = (
        (SPACES / "spread.py").read_text().replace("from curves import", "from beside_me import")
    )
    (tmp_path / "mine.py").write_text(space)
    results = run_sweep(str(tmp_path / "mine.py"), num_trials=1, workers_per_trial=2)
    trial = results.history.trials["t001"]
    assert trial.status == "finished", trial.attempts[-1].traceback
    assert puts == [], "Ray's client ends a process that owns objects on a node that is gone"


def test_a_signal_to_the_process_group_of_a_sweep_does_not_reach_its_ray(ray_cluster: None):
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie's error is one of these
            if "ray" in " ".join(process.cmdline()).lower():
                found[process.name()] = os.getpgid(process.pid)
    assert {"gcs_server", "raylet"} <= set(found)
    assert [name for name, group in found.items() if group == os.getpgrp()] == []


def test_a_cluster_whose_nodes_a_person_started_does_not_grow(ray_cluster: None):
    assert cluster.nodes()
    assert not cluster.grows()
