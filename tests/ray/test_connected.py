"""A sweep in a process that is connected to Ray already, as a notebook is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sweeps.driver import cluster
from tests.conftest import SPACES, RunSweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def test_workers_get_the_helper_module_and_the_variables_though_ray_has_no_working_folder_of_ours(
    run_sweep: RunSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_SWEEPS_TEST", "passed on")
    shutil.copy(SPACES / "curves.py", tmp_path / "beside_me.py")
    space = (
        (SPACES / "spread.py").read_text().replace("from curves import", "from beside_me import")
    )
    (tmp_path / "mine.py").write_text(space)
    results = run_sweep(str(tmp_path / "mine.py"), num_trials=1, workers_per_trial=2)
    trial = results.history.trials["t001"]
    assert trial.status == "finished", trial.attempts[-1].traceback


def test_a_cluster_whose_nodes_a_person_started_does_not_grow(ray_cluster: None):
    assert cluster.nodes()
    assert not cluster.grows()
