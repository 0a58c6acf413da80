"""Ends the runs that a script's own trackers keep open, so that each job has its own run.

Runs in a worker, after the training of each job. It must not know what is logged.

HF's callbacks (transformers 5.23) for W&B, Comet and SwanLab use the open run of the process if
there is one, and leave it open for what a script does after training. HF's other callbacks close
their runs.
"""

from __future__ import annotations

import logging
import sys

ENDS = {"wandb": "finish", "comet_ml": "end", "swanlab": "finish"}
"""The function that ends the open run of a tracker, by its module."""

logger = logging.getLogger("sweeps")


def end_runs() -> None:
    """End the open run of each tracker that this process has imported."""
    for name, end in ENDS.items():
        if (module := sys.modules.get(name)) is None:
            continue
        try:
            getattr(module, end)()
        except Exception as error:  # must not end the trial; SwanLab raises without a run
            logger.warning("%s.%s(): %s", name, end, error)
