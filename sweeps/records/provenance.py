"""What a sweep ran on: the versions of its packages, and the commit of its search space.

Runs in the sweep process. It must not know what is done with them.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    *("sweeps", "ray", "torch", "transformers", "datasets", "evaluate", "peft", "optuna"),
    "mlflow",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a sweep stands on."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # mlflow-skinny in place of mlflow
            continue
    return found


def git_state(file: Path | None) -> dict[str, Any] | None:
    """Return the commit that the space's file stands in, or None outside a repository."""
    place = file.parent if file else Path.cwd()

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(place), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "branch": ask("rev-parse", "--abbrev-ref", "HEAD"),
            "dirty": bool(ask("status", "--porcelain")),
            # Without credentials: `https://name:token@host/…`.
            "url": re.sub(
                r"//[^/@]*@", "//", ask("config", "--default", "", "--get", "remote.origin.url")
            ),
        }
    except (OSError, subprocess.CalledProcessError):
        return None
