"""Ends the runs that a script's own trackers keep open in the process, so each job has its own.

Runs in a worker, after the training of each job. It must not know what is logged.

HF's callbacks (transformers 5.23) for W&B, Comet and SwanLab take the process's open run if there
is one, and leave it open for what a script does after the training. Its others close theirs.
"""

from __future__ import annotations

import logging
import sys

ENDS = {"wandb": "finish", "comet_ml": "end", "swanlab": "finish"}
"""What ends the open run of a tracker, by its module."""

logger = logging.getLogger("sweeps")


def end_runs() -> None:
    """End the open run of each tracker that this process has imported."""
    for name, end in ENDS.items():
        if (module := sys.modules.get(name)) is None:
            continue
        try:
            getattr(module, end)()
        except Exception as error:  # a tracker ends no trial; SwanLab raises where no run is open
            logger.warning("%s.%s(): %s", name, end, error)
