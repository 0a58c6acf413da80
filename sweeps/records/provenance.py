"""What a sweep ran on: the versions of its packages, and the commit of its search space.

Runs in the sweep process. It must not know what the information is used for.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    *("sweeps", "ray", "torch", "transformers", "datasets", "evaluate", "peft", "trl"),
    *("optuna", "mlflow"),
)
BUT_FOR_BYTECODE = ":(top,exclude,glob)**/__pycache__/**"
"""Leaves out bytecode, which Python writes when it imports the space."""


@dataclass(frozen=True, kw_only=True)
class GitState:
    """The commit that contains a search space."""

    commit: str
    branch: str
    dirty: bool
    """Whether anything in the repository was not committed."""
    url: str
    """The URL of the remote `origin`, without credentials; empty if there is none."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a sweep depends on."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # mlflow-skinny in place of mlflow
            continue
    return found


def git_state(file: Path | None) -> GitState | None:
    """Return the state of the repository that contains a file; None if there is no repository.

    Args:
        file: The space's file; None: use the current folder.
    """
    place = file.parent if file else Path.cwd()

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(place), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        url = ask("config", "--default", "", "--get", "remote.origin.url")
        return GitState(
            commit=ask("rev-parse", "HEAD"),
            branch=ask("rev-parse", "--abbrev-ref", "HEAD"),
            dirty=bool(ask("status", "--porcelain", "--", ":/", BUT_FOR_BYTECODE)),
            url=re.sub(r"//[^/@]*@", "//", url),  # `https://name:token@host/…`
        )
    except (OSError, subprocess.CalledProcessError):
        return None
