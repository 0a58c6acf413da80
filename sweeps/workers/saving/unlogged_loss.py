"""The training loss since the latest log entry, saved with a state and continued after a resume.

Runs in a worker, on every rank. It must not know why a state is saved.

HF logs the mean loss of the steps since its last log entry, but does not save it, so after a
resume, the first entry would be a mean over fewer steps. `_tr_loss` and `_globalstep_last_logged`
are not documented (transformers 5.17 to 5.23); `tests/workers/test_training.py` checks them.
"""

from __future__ import annotations

import json
from pathlib import Path

from transformers import Trainer


def save(trainer: Trainer, state: Path) -> Path:
    """Write this rank's loss to the folder of a state; return the file."""
    file = _file(trainer, state)
    file.write_text(
        json.dumps({"loss": trainer._tr_loss.item(), "logged": trainer._globalstep_last_logged})
    )
    return file


def restore(trainer: Trainer, state: Path) -> None:
    """Restore this rank's loss at the start of a training that resumes a state.

    A state from a different number of workers may have no loss for this rank.
    """
    file = _file(trainer, state)
    if file.is_file():
        saved = json.loads(file.read_text())
        trainer._tr_loss += saved["loss"]
        trainer._globalstep_last_logged = saved["logged"]


def _file(trainer: Trainer, state: Path) -> Path:
    return state / f"unlogged_loss_{trainer.args.process_index}.json"
