"""Registered models: each shipped task loads by name in every way; the confirmed winner, too."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

import sweeps
from sweeps import CausalLM, TextClassification, TokenClassification
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import finish_checkpoint
from sweeps.records.sweep_record import write_record
from sweeps.space.builder import Pipeline
from sweeps.trackers.mlflow.registry import register, registered_models
from sweeps.trackers.mlflow.view import model_links
from tests.answer.test_export import adapter_of
from tests.conftest import TINY
from tests.trackers.conftest import Served
from tests.written_confirmation import confirmation_events

pytestmark = pytest.mark.timeout(240)


def a_classifier(folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(TINY / "model", folder, dirs_exist_ok=True)
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder)


def a_tagger(folder: Path) -> None:
    from transformers import AutoModelForTokenClassification

    shutil.copytree(TINY / "tagging_model", folder, dirs_exist_ok=True)
    AutoModelForTokenClassification.from_pretrained(folder).save_pretrained(folder)


def a_writer(folder: Path) -> None:
    from transformers import GenerationConfig

    shutil.copytree(TINY / "causal_model", folder, dirs_exist_ok=True)
    # It has 64 positions; a pipeline draws up to 256 tokens unless the model says otherwise.
    GenerationConfig(max_new_tokens=8).save_pretrained(folder)


TASKS: dict[str, tuple[Callable[[Path], None], Pipeline, str]] = {
    "text": (a_classifier, TextClassification.pipeline, "AutoModelForSequenceClassification"),
    "tokens": (a_tagger, TokenClassification.pipeline, "AutoModelForTokenClassification"),
    "causal": (a_writer, CausalLM.pipeline, "AutoModelForCausalLM"),
    "adapter": (adapter_of(TINY / "causal_model"), CausalLM.pipeline, "AutoModelForCausalLM"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_registered_model_loads_by_its_name_in_every_way(
    task: str, new_sweep: Any, tmp_path: Path
) -> None:
    import torch
    import transformers

    save, pipeline, auto = TASKS[task]
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    save(checkpoint)
    sweep = new_sweep(pipeline=pipeline)
    sweep.begin("t001")
    sweep.report("t001", 1, 0.9)
    sweep.save_best("t001", 1, checkpoint)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None, sweep.log_of()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/another.db")
    assert register(sweep.folder, "t001", 20, "reviews") == "models:/reviews/1"
    assert register(sweep.folder, "t001", 20, "reviews") == "models:/reviews/2"
    version = MlflowClient(sweep.uri).get_model_version_by_alias("reviews", "champion")
    assert int(version.version) == 2
    assert registered_models(sweep.folder) == ["reviews version 2", "reviews version 1"]
    assert not (tmp_path / "another.db").exists()
    uri = "models:/reviews@champion"
    folder = Path(mlflow.artifacts.download_artifacts(uri)) / "model"
    words = transformers.AutoTokenizer.from_pretrained(folder)(["good"], return_tensors="pt")
    words.pop("token_type_ids", None)
    loader = getattr(transformers, auto)
    with torch.no_grad():
        want = loader.from_pretrained(checkpoint).eval()(**words).logits
        assert torch.equal(loader.from_pretrained(folder).eval()(**words).logits, want)
        loaded = mlflow.transformers.load_model(uri)
        assert torch.equal(loaded.model.eval()(**words).logits, want)
    assert loaded.task == pipeline.task
    served = mlflow.pyfunc.load_model(uri)
    if task != "adapter":  # its tiny base has fewer positions than a pipeline writes tokens
        assert len(served.predict(["good"])) == 1
    models, best = model_links(sweep.folder, "http://127.0.0.1:5000/")
    assert best == models.replace("?", f"/{version.source.removeprefix('models:/')}?")


def test_an_export_from_python_is_registered_in_a_store_that_a_server_keeps(
    new_sweep: Any, mlflow_server: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    import transformers

    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    a_classifier(checkpoint)
    own = "bert_yelp-20261122-0741-srvd"  # other tests write to this server, too
    sweep = new_sweep(own, pipeline=TextClassification.pipeline, uri=mlflow_server.url)
    sweep.begin("t001")
    sweep.report("t001", 1, 0.9)
    sweep.save_best("t001", 1, checkpoint)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write() is None, sweep.log_of()
    handed = sweeps.load(sweep.folder.id, sweep.storage)
    out = handed.export(tmp_path / "out", evaluate=False, register="served reviews")
    said = capsys.readouterr().out
    assert "not evaluated again: " in said, "as the verb says"
    assert "registered as models:/served reviews/1" in said
    mlflow.set_tracking_uri(mlflow_server.url)
    version = MlflowClient().get_model_version_by_alias("served reviews", "champion")
    assert registered_models(sweep.folder) == ["served reviews version 1"]
    loaded = mlflow.transformers.load_model("models:/served reviews@champion")
    words = loaded.tokenizer(["good"], return_tensors="pt")
    with torch.no_grad():
        exported = transformers.AutoModelForSequenceClassification.from_pretrained(out)
        want = exported.eval()(**words).logits
        assert torch.equal(loaded.model.eval()(**words).logits, want)
    models, best = model_links(sweep.folder, mlflow_server.url)
    assert best == models.replace("?", f"/{version.source.removeprefix('models:/')}?")


def test_after_a_confirmation_the_logged_model_is_the_confirmed_winner(
    new_sweep: Any, weights: Path
) -> None:
    sweep = new_sweep()
    for trial, value in {"t001": 0.9, "t002": 0.8}.items():
        sweep.begin(trial)
        sweep.report(trial, 1, value)
        sweep.save_best(trial, 1, weights)
        sweep.end(trial, "finished")
    sweep.end_sweep()
    assert sweep.write() is None, sweep.log_of()
    best = sweep.folder.checkpoints / "c002" / "best-8"
    shutil.copytree(weights, best)
    sha256 = finish_checkpoint(best, trial="c002", number=1, step=8)
    path = str(best.relative_to(sweep.folder.path))
    saved = ev.CheckpointSaved(
        time=0, trial="c002", number=1, kind="best", path=path, sha256=sha256
    )
    arms = {"t001": [0.5, 0.6] * 3, "t002": [0.7, 0.8] * 3}
    *runs, end = confirmation_events(arms, metric="eval_accuracy")
    sweep.reopen()
    for event in (*runs, ev.OfConfirmation(time=0, inner=saved), end):
        sweep.log.append(event)
    sweep.end_sweep()
    assert sweep.write() is None, sweep.log_of()
    state = sweep.feed()._state  # what the tracker remembers
    model = MlflowClient(sweep.uri).get_logged_model(state.own["model"])
    assert model.name == f"{sweep.folder.id}-c002-step8"
    assert model.source_run_id == state.own["runs"][""]
    said = MlflowClient(sweep.uri).get_run(model.source_run_id).data.tags["mlflow.note.content"]
    assert (
        "This run's `eval_accuracy` and its model are those of c002, the confirmation's best run;"
        " `best_eval_accuracy` is the best value of the search."
    ) in said


def test_only_the_checkpoint_that_was_exported_is_registered(new_sweep: Any, weights: Path) -> None:
    """A trial that still runs may save a better one, and drop the exported one, at any time."""
    sweep = new_sweep()
    sweep.begin("t001")
    for number, value in {1: 0.6, 2: 0.7}.items():
        sweep.report("t001", number, value)
        sweep.save_best("t001", number, weights)
    sweep.log.close()
    assert sweep.write() is None, sweep.log_of()
    with pytest.raises(SweepError) as raised:
        register(sweep.folder, "t001", 20, "reviews")
    assert str(raised.value) == (
        f"--register reviews: not registered, because {sweep.folder.path} no longer has the"
        " checkpoint of t001 at step 20; if t001 has a better one by now, export again"
    )
    assert register(sweep.folder, "t001", 40, "reviews") == "models:/reviews/1"


def test_a_sweep_that_mlflow_does_not_have_is_refused(new_sweep: Any) -> None:
    sweep = new_sweep()
    with pytest.raises(UserError, match="is not in MLflow yet"):
        register(sweep.folder, "t001", 20, "reviews")
    config = dataclasses.replace(sweep.record.config, trackers=())
    write_record(sweep.folder, dataclasses.replace(sweep.record, config=config))
    with pytest.raises(UserError, match="is not in MLflow; to write it there, run: "):
        register(sweep.folder, "t001", 20, "reviews")
