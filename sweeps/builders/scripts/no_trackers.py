"""Keeps a dry run out of the user's trackers: a run that a script starts would be empty.

Runs in the process of a dry run. It must not know which script that is.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.space.import_hook import ImportHook

_OFF = {"WANDB_MODE": "disabled", "SWANLAB_MODE": "disabled", "CLEARML_OFFLINE_MODE": "1"}
"""Variables that keep a tracker from recording anything, or from sending it."""
_FLUENT = "mlflow.tracking.fluent"
"""The module of MLflow's functions for runs."""
_WRITING = ("set_experiment", "start_run")
"""Those after which a script can write to its MLflow server; before, it may read models there."""


def without_trackers(scratch: Path) -> None:
    """Turn trackers off for the rest of this process; MLflow's go to a folder.

    A folder takes MLflow (3.17) no time, and a database file 5 s.
    """
    os.environ |= {**_OFF, "MLFLOW_ALLOW_FILE_STORE": "true"}
    uri = scratch.as_uri()
    if _FLUENT in sys.modules:
        _redirect(uri)
    else:
        hook = ImportHook(lambda name: name == _FLUENT, lambda _: _redirected(uri))
        sys.meta_path.insert(0, hook)


@contextmanager
def _redirected(uri: str) -> Iterator[None]:
    yield
    _redirect(uri)


def _redirect(uri: str) -> None:
    """Have MLflow write to another place from a script's first use of it on."""
    fluent, package = sys.modules[_FLUENT], sys.modules["mlflow"]

    def elsewhere(name: str) -> None:
        own = getattr(fluent, name)

        @functools.wraps(own)
        def function(*args: Any, **options: Any) -> Any:
            package.set_tracking_uri(uri)
            return own(*args, **options)

        for module in (fluent, package):
            setattr(module, name, function)

    for name in _WRITING:
        elsewhere(name)
