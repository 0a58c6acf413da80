"""Names that MLflow does not take as they are: of metrics, params, spaces and sweeps."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient

from sweeps.answer.results import read_results
from sweeps.trackers.mlflow import sweep_link
from sweeps.trackers.mlflow.names import clean
from tests.conftest import CommandLine
from tests.stored_runs import history, rejected, runs_of

ODD = [
    *("precision@5", "precision_5", "precision 5", "f1 (macro)", "f1 _macro_", "größe", "日本"),
    *("a/b", "a//b", "a_b", "/a", "a/", "./a", "../a", ".", "..", "", "line\nbreak", "50%", "it's"),
    *("x" * 251, "x" * 250, "x" * 250 + "y", "/" * 300, "both'\"`", "eval_#"),
]
SPACES = [
    *("it's", "100%", "größe #1?", "both 'and\" `", "日本", "a.b%41", "x" * 200),
]


def test_metrics_and_params_with_odd_names_stay_apart_and_keep_their_values(new_sweep: Any) -> None:
    numbers = {name: float(number) for number, name in enumerate(ODD)}
    sweep = new_sweep(fixed={f"p{name}": number for name, number in numbers.items()})
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5, metrics={"eval_accuracy": 0.5, **numbers})
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None, rejected(sweep)
    data = runs_of(sweep)["t001"].data
    assert {name: data.metrics[clean(name)] for name in ODD} == numbers
    assert {name: float(data.params[clean(f"p{name}")]) for name in ODD} == numbers
    assert clean("precision_5") == "precision_5", "a name that MLflow takes is left as it is"


def test_the_judged_metric_arrives_beside_a_similar_one_and_all_of_mlflow_names_it(
    new_sweep: Any, weights: Path
) -> None:
    judged, other = "eval_precision@5", "eval_precision_5"
    sweep = new_sweep(metric=judged)
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5, metrics={judged: 0.5, other: 0.25, "eval_f1 (macro)": 0.4})
    sweep.save_best("t001", 1, weights)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None
    client, runs = MlflowClient(sweep.uri), runs_of(sweep)
    experiment = client.get_experiment(runs["t001"].info.experiment_id)
    primary = experiment.tags["mlflow.experiment.primaryMetric.name"]
    assert history(sweep, runs["t001"], primary) == [(20, 0.5)]
    assert history(sweep, runs["t001"], other) == [(20, 0.25)]
    [output] = client.get_run(runs["t001"].info.run_id).outputs.model_outputs
    model = {
        metric.key: metric.value for metric in client.get_logged_model(output.model_id).metrics
    }
    assert (model[primary], model[other]) == (0.5, 0.25)
    [view] = [value for tag, value in experiment.tags.items() if "sharedViewState" in tag]
    packed = json.loads(view)["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["orderByKey"] == "tags.`sweep.rank`"
    [best] = state["compareRunCharts"][2]["selectedMetrics"]
    assert runs[sweep.folder.id].data.metrics[best] == 0.5
    assert runs["t001"].data.metrics[best] == 0.5
    assert state["compareRunCharts"][0]["metricKey"] == primary


@pytest.mark.parametrize("space", SPACES, ids=range(len(SPACES)))
def test_a_space_with_an_odd_name_is_tracked_resumed_linked_and_found_again(
    space: str, new_sweep: Any, weights: Path
) -> None:
    sweep = new_sweep(f"{space}-20261122-0741-k3f9", space=space)
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.save_best("t001", 1, weights)
    sweep.log.close()
    assert sweep.write() is None, rejected(sweep)
    before = runs_of(sweep)
    sweep.reopen()
    sweep.job("t001", attempt=2)
    sweep.report("t001", 2, 0.4)
    sweep.end("t001", "failed", "error", attempt=2, traceback="Traceback\nValueError: x")
    sweep.end_sweep()
    shutil.rmtree(sweep.folder.trackers)  # all is found again by its name
    assert sweep.write() is None, rejected(sweep)
    runs, client = runs_of(sweep), MlflowClient(sweep.uri)
    assert {n: r.info.run_id for n, r in runs.items()} == {
        n: r.info.run_id for n, r in before.items()
    }
    files = client.list_artifacts(runs["t001"].info.run_id)
    assert [file.path for file in files] == ["traceback-attempt2.txt"]
    [model] = client.search_logged_models([runs["t001"].info.experiment_id])
    assert str(model.status) == "READY"
    assert (sweep.storage / "mlartifacts" / space).is_dir()
    link = urlsplit(sweep_link(sweep.folder, "http://127.0.0.1:1"))
    experiment = client.get_experiment(runs["t001"].info.experiment_id)
    [key] = parse_qs(urlsplit(link.fragment).query)["viewStateShareKey"]
    assert f"mlflow.sharedViewState.{key}" in experiment.tags
    assert read_results(sweep.folder).record.space.name == space


def test_the_best_of_a_space_with_an_odd_name_is_exported(
    new_sweep: Any, tiny_bert: Path, command_line: CommandLine
) -> None:
    sweep = new_sweep("it's 100% größe-20261122-0741-k3f9", space="it's 100% größe")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.save_best("t001", 1, tiny_bert)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    where = ("--storage", str(sweep.storage))
    said = command_line("export", "it's 100% größe", "--no-evaluate", "--out", "it's out", *where)
    assert (said.code, said.err) == (0, "")
    assert (sweep.storage / "it's out" / "model.safetensors").is_file()
    said = command_line("results", "it's 100% größe", "--json", *where)
    assert json.loads(said.out)["sweep"] == sweep.folder.id
