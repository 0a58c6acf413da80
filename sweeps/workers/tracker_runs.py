"""Ends the runs that a script's own trackers keep open, so that each job has its own run.

Runs in a worker, after the training of each job. It must not know what is logged.

HF's callbacks (transformers 5.23) for W&B, Comet and SwanLab use the open run of the process if
there is one, and leave it open for what a script does after training. HF's other callbacks close
the runs that they open, but not one that the builder has opened, such as MLflow's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any


def _end_mlflow(mlflow: Any) -> None:
    while mlflow.active_run() is not None:  # runs may be nested
        mlflow.end_run()


def _end_clearml(clearml: Any) -> None:
    if (task := clearml.Task.current_task()) is not None:
        task.close()


ENDS: Mapping[str, Callable[[Any], object]] = {
    "wandb": lambda wandb: wandb.finish(),
    "comet_ml": lambda comet: comet.end(),
    "swanlab": lambda swanlab: swanlab.finish(),
    "trackio": lambda trackio: trackio.finish(),
    "mlflow": _end_mlflow,
    "clearml": _end_clearml,
}
"""What ends the open runs of a tracker, by the module that it receives."""

logger = logging.getLogger("sweeps")


def end_runs() -> None:
    """End the open runs of each tracker that this process has imported."""
    for name, end in ENDS.items():
        if (module := sys.modules.get(name)) is None:
            continue
        try:
            end(module)
        except Exception as error:  # must not end the trial; SwanLab and Trackio raise without one
            logger.warning("the open run of %s could not be ended: %s", name, error)
