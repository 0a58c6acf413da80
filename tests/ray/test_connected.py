"""A sweep in a process that is connected to Ray already, as a notebook is."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import ipykernel  # noqa: F401  the kernel that nbclient starts
import nbformat
import psutil
import pytest
import ray
from nbclient import NotebookClient

from sweeps.driver import cluster
from tests.conftest import SPACES

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


NOTEBOOK = """
import ray
import sweeps

ray.init(address={address!r}, log_to_driver=False)
put, puts = ray.put, []
ray.put = lambda *what, **how: puts.append(what) or put(*what, **how)
print("mine, before")
plain = dict(max_concurrent=1, smoke=False, trackers=())
sweep = sweeps.run("mine.py", sweeps.SweepConfig(num_trials=1, workers_per_trial=2, **plain))
print("mine, after", puts)
sweep
"""


def test_a_notebook_shows_a_sweep_in_one_output_and_its_workers_get_helper_and_variables(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its Ray has no working folder of ours. Ray's client ends a process that has put objects."""
    monkeypatch.setenv("HF_SWEEPS_TEST", "passed on")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    shutil.copy(SPACES / "curves.py", tmp_path / "beside_me.py")
    space = (
        (SPACES / "spread.py").read_text().replace("from curves import", "from beside_me import")
    )
    (tmp_path / "mine.py").write_text(space)
    cell = NOTEBOOK.format(address=ray.get_runtime_context().gcs_address)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    # Beside what libraries say when they are imported.
    before, shown, after, last = (
        each for each in notebook.cells[0].outputs if each.get("name") != "stderr"
    )
    assert [before.text, after.text] == ["mine, before\n", "mine, after []\n"]
    (folder,) = (tmp_path / "results").glob("mine-*")
    text = shown.data["text/plain"]
    assert f"{folder.name} in {folder}" in text
    assert f"{folder.name}: 1 finished" in text
    assert f"<caption>{folder.name}: finished, 1 trial" in last.data["text/html"]


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
    assert not cluster.autoscales()
