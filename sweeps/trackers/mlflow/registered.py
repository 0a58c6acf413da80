"""The registered models that are a sweep's, which its deletion would leave without their origin.

Runs in the verb `delete`, which imports MLflow for it. It must not change anything in the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sweeps.errors import SweepError
from sweeps.records.folder import SweepFolder
from sweeps.trackers.mlflow.ids import Ids
from sweeps.trackers.mlflow.store import check_tracking, is_server, sqlite_file
from sweeps.trackers.mlflow.tracker import MlflowTracker
from sweeps.trackers.state import load_state

if TYPE_CHECKING:
    from mlflow import MlflowClient


def registered_models(folder: SweepFolder) -> list[str]:
    """Return the versions of registered models that come from a sweep's runs: `NAME version 3`.

    Raises:
        SweepError: MLflow cannot be asked.
    """
    own = load_state(folder, "mlflow").own
    if not own:
        return []
    ids = Ids(**own)
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
        raise SweepError(f"MLflow at {ids.uri} cannot be asked: {error}") from error
    return [f"{v.name} version {v.version}" for v in versions if v.run_id in runs]


def _versions(client: MlflowClient) -> Iterator[Any]:
    """Yield every version of every registered model."""
    token = None
    while True:
        page = client.search_model_versions(page_token=token)
        yield from page
        if not (token := page.token):
            return
