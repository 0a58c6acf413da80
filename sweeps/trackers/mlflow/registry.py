"""Registered models in MLflow: registers a trial's model, and finds those of a sweep.

Called by `export --register` and by `delete`, which import MLflow for this. It must not know which
trial won.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sweeps.errors import SweepError, UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import read_record
from sweeps.trackers.mlflow.ids import remembered, sweep_in_mlflow
from sweeps.trackers.mlflow.store import check_tracking, is_server, sqlite_file
from sweeps.trackers.mlflow.tracker import MlflowTracker, patience
from sweeps.trackers.state import load_state

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS = "champion"
"""The alias of the newest registered version: `models:/NAME@champion`."""


def register(folder: SweepFolder, trial: str, step: int, name: str) -> str:
    """Register the best checkpoint of a trial or of a confirmation's run; return its URI.

    It becomes a new version of the model, with the alias `champion`.

    Args:
        folder: The sweep's folder.
        trial: The trial or the run.
        step: The optimizer step of the checkpoint: a running trial may have a newer one.
        name: The name of the registered model.

    Raises:
        UserError: The sweep is not in MLflow, or the store rejects the model.
        SweepError: The checkpoint is gone, or the store cannot be reached.
    """
    os.environ.update(MlflowTracker.environment)
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from sweeps.trackers.mlflow.model import best_checkpoint, log_best
    from sweeps.trackers.mlflow.refusals import STORE_ERRORS, is_absent

    ids, record = sweep_in_mlflow(folder), read_record(folder)
    best = best_checkpoint(folder, trial)
    if best is None or best.report.step != step:
        raise SweepError(
            f"--register {name}: not registered, because {folder.path} no longer has the checkpoint"
            f" of {trial} at step {step}; if {trial} has a better one by now, export again"
        )
    try:
        mlflow.set_tracking_uri(ids.uri)  # parts of MLflow create their own clients
        client = MlflowClient(ids.uri)
        with patience():
            model = log_best(client, ids, record, best)
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            name, f"models:/{model}", client.get_logged_model(model).source_run_id, model_id=model
        )
        client.set_registered_model_alias(name, ALIAS, made.version)
    except STORE_ERRORS as error:
        kind = SweepError if is_absent(error, ids.uri) else UserError
        why = " ".join(f"{ids.uri}: {error}".split())
        raise kind(f"--register {name}: not registered: {why}") from error
    return f"models:/{name}/{made.version}"


def registered_models(folder: SweepFolder) -> list[str]:
    """Return the versions of registered models that come from a sweep's runs: `NAME version 3`.

    Raises:
        SweepError: MLflow cannot be queried.
    """
    ids = remembered(folder, read_record(folder), load_state(folder, "mlflow"))
    if ids is None:
        return []
    file = sqlite_file(ids.uri)
    if not is_server(ids.uri) and (file is None or not file.exists()):
        return []  # the store is gone, and its registry with it
    check_tracking(ids.uri)
    os.environ.update(MlflowTracker.environment)
    from mlflow import MlflowClient

    from sweeps.trackers.mlflow.refusals import STORE_ERRORS

    runs = {*ids.runs.values()}
    try:
        versions = list(_versions(MlflowClient(ids.uri)))
    except STORE_ERRORS as error:
        raise SweepError(f"cannot query MLflow at {ids.uri}: {error}") from error
    return [f"{v.name} version {v.version}" for v in versions if v.run_id in runs]


def _versions(client: MlflowClient) -> Iterator[Any]:
    """Yield every version of every registered model."""
    token = None
    while True:
        page = client.search_model_versions(page_token=token)
        yield from page
        if not (token := page.token):
            return
