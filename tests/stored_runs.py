"""What MLflow's store has of a sweep that is written by hand."""

from __future__ import annotations

import json
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run


def runs_of(sweep: Any) -> dict[str, Run]:
    """Return the runs of the sweep by name; a doubled one fails."""
    client = MlflowClient(sweep.uri)
    experiment = client.get_experiment_by_name(sweep.record.space.name)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    own = [run for run in found if run.data.tags["sweep.id"] == sweep.folder.id]
    names = [run.info.run_name for run in own]
    assert len(names) == len(set(names)), f"doubled: {sorted(names)}"
    return dict(zip(names, own, strict=True))


def history(sweep: Any, run: Run, metric: str) -> list[tuple[int, float]]:
    """Return the values of a metric with their steps, in order."""
    points = MlflowClient(sweep.uri).get_metric_history(run.info.run_id, metric)
    return [(point.step, point.value) for point in sorted(points, key=lambda p: p.step)]


def rejected(sweep: Any) -> list[dict[str, Any]]:
    """Return what MLflow has refused of the sweep."""
    path = sweep.folder.logs / "mlflow-rejected.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
