"""The training loss since the newest log entry, saved with a state and added to after a resume.

Runs in a worker, on every rank. It must not know why a state is saved.

HF logs the mean loss of the steps since its last log entry, and saves none of it: after a resume,
its first entry would be a mean over fewer steps. `_tr_loss` and `_globalstep_last_logged` are not
documented (transformers 5.17 to 5.23); `tests/workers/test_training.py` holds HF to them.
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import Trainer


def save(trainer: Trainer, state: Path) -> Path:
    """Write this rank's loss into the folder of a state; return the file."""
    file = _file(trainer, state)
    file.write_text(
        json.dumps({"loss": trainer._tr_loss.item(), "logged": trainer._globalstep_last_logged})
    )
    return file


def restore(trainer: Trainer, state: Path) -> None:
    """Take up this rank's loss, at the begin of a training that resumes a state.

    A state of another number of workers may have none of this rank.
    """
    file = _file(trainer, state)
    if file.is_file():
        saved = json.loads(file.read_text())
        trainer._tr_loss += saved["loss"]
        trainer._globalstep_last_logged = saved["logged"]


def _file(trainer: Trainer, state: Path) -> Path:
    return state / f"unlogged_loss_{trainer.args.process_index}.json"
