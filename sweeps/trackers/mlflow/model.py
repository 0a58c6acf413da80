"""The best checkpoint of a sweep as a logged model of its trial's run, in a layout that loads.

Called by the tracker's process. It must not import transformers or torch: `MLmodel` is written by
hand, because `mlflow.transformers.log_model` of a folder fails (mlflow 3.17.2, transformers 5.23);
once it works without loading the weights into memory, it can replace `_lay_out`.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.tracking import MlflowClient

from sweeps.answer.answer import Answer
from sweeps.records.checkpoints import RESUME_ONLY, WEIGHTS, is_whole
from sweeps.records.event_log import read_events
from sweeps.records.events import (
    CheckpointDropped,
    CheckpointSaved,
    OfConfirmation,
    Reported,
    TrialSuggested,
)
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.report import Report
from sweeps.space.builder import Pipeline
from sweeps.trackers.base import SWEEP
from sweeps.trackers.mlflow.ids import Ids
from sweeps.trackers.mlflow.names import clean, model_name, ms, shorten
from sweeps.trackers.mlflow.refusals import store_of_files

TEXT = [{"type": "string", "required": True}]
"""The columns of a signature with a single text."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The checkpoint to log, and the trial that it belongs to."""

    trial: str
    params: Mapping[str, Any]
    report: Report
    time: float
    """Unix time of the report."""
    checkpoint: Path


def find_best(folder: SweepFolder, answer: Answer) -> Best | None:
    """Return the sweep's best checkpoint; None if this machine has no complete copy.

    This is the winner's checkpoint. After a confirmation, it comes from the best run of the params
    with the best confirmed mean.
    """
    if answer.confirmation is not None and answer.confirmation.best_run is not None:
        return best_checkpoint(folder, answer.confirmation.best_run)
    return best_checkpoint(folder, answer.winner.trial) if answer.winner is not None else None


def best_checkpoint(folder: SweepFolder, trial: str) -> Best | None:
    """Return the best checkpoint of a trial or a confirmation's run; None as in `find_best`."""
    params: Mapping[str, Any] = {}
    reported: dict[int, Reported] = {}
    saved: CheckpointSaved | None = None
    for logged, _ in read_events(folder.events_file):
        event = logged.inner if isinstance(logged, OfConfirmation) else logged
        match event:
            case TrialSuggested(trial=name) if name == trial:
                params = event.params
            case Reported() if event.report.trial == trial:
                reported[event.report.number] = event
            case CheckpointSaved(trial=name, kind="best") if name == trial:
                saved = event
            case CheckpointDropped() if saved is not None and event.path == saved.path:
                saved = None
    if saved is None or not is_whole(folder.path / saved.path):
        return None
    of = reported[saved.number]
    return Best(
        trial=trial,
        params=params,
        report=of.report,
        time=of.time,
        checkpoint=folder.path / saved.path,
    )


def run_of(ids: Ids, trial: str) -> str:
    """Return the MLflow run of a trial; a confirmation's runs share the sweep's own."""
    return ids.runs.get(trial, ids.runs[SWEEP])


def log_best(client: MlflowClient, ids: Ids, record: SweepRecord, best: Best) -> str:
    """Log the checkpoint as a model of its trial's run; repeating this changes nothing.

    Returns the model's id.

    On a local store the files are hard links: they share the checkpoint's blocks, so neither may
    be rewritten in place.
    """
    run = run_of(ids, best.trial)
    name = model_name(f"{record.sweep}-{best.trial}-step{best.report.step}")
    of_run = f"source_run_id = '{run}'"
    found = client.search_logged_models([ids.experiment], filter_string=of_run)
    named = [model for model in found if model.name == name]
    model = named[0] if named else _create(client, ids, record, best, name)
    if model.status != LoggedModelStatus.READY:
        sweep = best.checkpoint.parents[2]  # a trial's folder is exported, with what is in it
        with _folder(model.artifact_location, sweep) as (target, local):
            _lay_out(target, best, record, model.model_id)
            if not local:
                with store_of_files():
                    client.log_model_artifacts(model.model_id, str(target))
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run).outputs
    if outputs is None or model.model_id not in {o.model_id for o in outputs.model_outputs}:
        client.log_outputs(run, [LoggedModelOutput(model.model_id, step=best.report.step)])
    metrics = [
        Metric(clean(key), value, ms(best.time), best.report.step, model_id=model.model_id)
        for key, value in best.report.metrics.items()
        if abs(value) < float("inf")
    ]
    client.log_batch(run, metrics=metrics, synchronous=True)
    logger.info("logged %s as model %s", best.checkpoint, name)
    return str(model.model_id)


def _create(client: MlflowClient, ids: Ids, record: SweepRecord, best: Best, name: str) -> Any:
    return client.create_logged_model(
        ids.experiment,
        name=name,
        source_run_id=run_of(ids, best.trial),
        model_type="checkpoint",
        params={clean(key): shorten(value) for key, value in best.params.items()},
        tags={"sweep.id": record.sweep, "mlflow.user": record.user},
    )


@contextmanager
def _folder(location: str, beside: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the folder to lay the model out in, and whether that folder is the store's own."""
    if location.startswith("file:"):
        yield Path(url2pathname(urlsplit(location).path)), True
    else:
        with tempfile.TemporaryDirectory(dir=beside, prefix=".upload-") as folder:
            yield Path(folder), False


def _lay_out(target: Path, best: Best, record: SweepRecord, model_id: str) -> None:
    files = [
        path
        for path in best.checkpoint.rglob("*")
        if path.is_file() and not path.name.startswith((*RESUME_ONLY, "."))
    ]
    for path in files:
        name = path.relative_to(best.checkpoint)
        _link(path, target / "model" / name)
        if path.suffix not in WEIGHTS:
            _link(path, target / "components" / "tokenizer" / name)
    target.mkdir(parents=True, exist_ok=True)
    versions = record.versions
    # Without the local part of torch's version: no index has `2.13.0+cpu`.
    needs = [
        f"{package}=={versions[package].partition('+')[0]}"
        for package in ("mlflow", "transformers", "torch")
        if package in versions
    ]
    python = platform.python_version()
    texts = {
        "requirements.txt": "\n".join(needs) + "\n",
        "python_env.yaml": _yaml({"python": python, "dependencies": ["-r requirements.txt"]}),
        "conda.yaml": _yaml(
            {
                "name": "mlflow-env",
                "channels": ["conda-forge"],
                "dependencies": [f"python={python}", "pip", {"pip": needs}],
            }
        ),
        "MLmodel": _yaml(
            {
                "model_id": model_id,
                "mlflow_version": versions.get("mlflow"),
                "model_size_bytes": sum(path.stat().st_size for path in files),
                "utc_time_created": str(
                    datetime.fromtimestamp(best.time, UTC).replace(tzinfo=None)
                ),
                **_flavors(best, record.space.pipeline, versions.get("transformers"), python),
            }
        ),
    }
    for file, text in texts.items():
        (target / file).write_text(text)


def _flavors(
    best: Best, pipeline: Pipeline | None, transformers: str | None, python: str
) -> dict[str, Any]:
    """Return the ways to load the model; there are none for a class of the user's own.

    Without a pipeline there is no `predict`.
    """
    import transformers as hf

    config = _read(best.checkpoint / "config.json")
    architecture = (config.get("architectures") or [""])[0]
    if _read(best.checkpoint / "adapter_config.json").get("task_type") == "CAUSAL_LM":
        architecture = "AutoModelForCausalLM"  # with peft, it loads the base model first
    if architecture not in dir(hf):
        return {"flavors": {}}
    task = pipeline.task if pipeline else None
    tokenizer = _read(best.checkpoint / "tokenizer_config.json")
    flavor = {
        "transformers_version": transformers,
        "code": None,
        "task": task,
        # Named like a transformers pipeline. MLflow shows this, but loads by the task.
        "instance_type": f"{task.title().replace('-', '')}Pipeline" if task else architecture,
        "pipeline_model_type": architecture,
        "model_binary": "model",
        "source_model_name": best.trial,
        "torch_dtype": None,
        "components": ["tokenizer"] if tokenizer else [],
        "tokenizer_type": tokenizer.get("tokenizer_class", "AutoTokenizer"),
    }
    if pipeline is None:
        return {"flavors": {"transformers": flavor}}
    function = {
        "loader_module": "mlflow.transformers",
        "python_version": python,
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    }
    answer = [
        {"type": kind, "name": name, "required": True} for name, kind in pipeline.answer.items()
    ]
    signature = {"inputs": json.dumps(TEXT), "outputs": json.dumps(answer or TEXT), "params": None}
    return {
        "flavors": {"transformers": flavor, "python_function": function},
        "signature": signature,
    }


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def _yaml(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"  # JSON is YAML


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the two places are on different disks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
