"""A sweep whose model somebody has registered is not deleted by accident."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient

from sweeps.trackers.base import SWEEP as SWEEP_RUN
from sweeps.trackers.mlflow.ids import Ids
from sweeps.trackers.state import TrackerState, save_state
from tests.conftest import CommandLine
from tests.written_sweep import WrittenSweep

SWEEP = "bert_yelp-20261122-0741-k3f9"


def test_a_sweep_whose_model_is_registered_is_deleted_only_by_force(
    new_sweep: Callable[..., WrittenSweep], weights: Path, command_line: CommandLine
):
    sweep = new_sweep(SWEEP)
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.save_best("t001", 1, weights)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None
    client = MlflowClient(sweep.uri)
    [experiment] = client.search_experiments(filter_string="name = 'bert_yelp'")
    [model] = client.search_logged_models([experiment.experiment_id])
    client.create_registered_model("reviews")
    client.create_model_version("reviews", f"models:/{model.model_id}", model.source_run_id)

    words = ("delete", SWEEP, "--yes", "--storage", str(sweep.storage))
    said = command_line(*words)
    assert said.code == 2
    assert said.err.startswith(f"reviews version 1 in MLflow comes from {SWEEP}; to delete")
    assert sweep.folder.path.exists()
    said = command_line(*words, "--force")
    assert (said.code, sweep.folder.path.exists()) == (0, False)
    assert "its runs in MLflow and its logged model" in said.out
    assert len(client.search_model_versions()) == 1
    assert (sweep.storage / "mlartifacts").exists()


def test_where_mlflow_cannot_be_asked_nothing_is_deleted(
    new_sweep: Callable[..., WrittenSweep], command_line: CommandLine
):
    sweep = new_sweep(SWEEP)
    sweep.end_sweep()
    own = Ids("http://127.0.0.1:9", runs={SWEEP_RUN: "a-run"})
    save_state(TrackerState(own=dataclasses.asdict(own)), sweep.folder, "mlflow")
    words = ("delete", SWEEP, "--yes", "--storage", str(sweep.storage))
    said = command_line(*words)
    assert said.code == 2
    assert "to delete the sweep without this check, pass --force" in said.err
    assert sweep.folder.path.exists()
    assert command_line(*words, "--force").code == 0
