"""HF checkpoint folders of a sweep: names, end marker, and which files are the model.

Written by rank 0 of a worker group, deleted by the sweep process. It must not know why a
checkpoint is saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from sweeps.durable import flush, follow_umask, write_whole

MARKER = "checkpoint.json"
"""Written last: a folder without it is incomplete."""
RESUME_ONLY = (
    *("optimizer", "scheduler", "scaler", "rng_state", "trainer_state", "training_args"),
    *("unlogged_loss", "loss_scale", "pytorch_model_fsdp"),
    *("latest", "zero_to_", "global_step"),  # by DeepSpeed
)
"""Prefixes of the files and folders that only a resume needs."""
WEIGHTS = (".safetensors", ".bin", ".pt")


def state_name(step: int) -> str:
    """Return the name HF gives to its checkpoint at a step."""
    return f"checkpoint-{step}"


def best_name(step: int) -> str:
    """Return the name of the folder that holds only the model."""
    return f"best-{step}"


def is_checkpoint(path: Path) -> bool:
    """Tell from its name whether a path in a trial's folder is a checkpoint, not the user's own."""
    return re.fullmatch(r"(checkpoint|best)-\d+", path.name) is not None


def link_best(state: Path, best: Path) -> None:
    """Make `best` from the model of a complete state, with hard links where possible."""
    shutil.rmtree(best, ignore_errors=True)
    best.mkdir(parents=True)
    for file in _model_files(state):
        link = best / file.relative_to(state)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, link)
        except OSError:
            shutil.copy2(file, link)


def _model_files(folder: Path) -> list[Path]:
    """Return the files of the model, sorted by path.

    Those in subfolders belong to it: further adapters, modules, chat templates.
    """
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and not file.relative_to(folder).parts[0].startswith(RESUME_ONLY)
        and file != folder / MARKER
    ]


def weight_files(folder: Path) -> list[Path]:
    """Return the model's weight files, sorted by path."""
    return [file for file in _model_files(folder) if file.suffix in WEIGHTS]


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 over the model's weight files, sorted by path."""
    digest = hashlib.sha256()
    for file in weight_files(folder):
        with file.open("rb") as weights:
            while chunk := weights.read(2**22):
                digest.update(chunk)
    return digest.hexdigest()


def finish_checkpoint(
    folder: Path, *, trial: str, number: int, step: int, sha256: str | None = None
) -> str:
    """Flush the folder to disk, write its end marker, and return the SHA-256 of its weights.

    Args:
        folder: What HF has written.
        trial: Trial id.
        number: Number of the trial's newest report.
        step: The optimizer step.
        sha256: The SHA-256 of the weights; None: not known yet.
    """
    if folder.name.startswith("best-"):
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, not part of the model
    follow_umask(folder)
    for file in folder.rglob("*"):
        flush(file)
    sha256 = sha256 or weights_sha256(folder)
    marker = {"trial": trial, "number": number, "step": step, "sha256": sha256}
    write_whole(folder / MARKER, json.dumps(marker) + "\n")
    return sha256


def is_whole(folder: Path) -> bool:
    """Tell whether the folder has its end marker."""
    return (folder / MARKER).is_file()
