"""Locates a file or module that a worker lacks because only the space's folder is copied.

Runs in a worker, after an error of the user's code. It must not know about jobs.
"""

from __future__ import annotations

import os
from pathlib import Path

from sweeps.errors import UserError
from sweeps.workers.pickled_space import root_of


def left_behind(error: BaseException, code: Path, data: bytes) -> str:
    """Return where the missing file or module is, and what to do; empty if not near the space.

    Args:
        error: The error that the user's code raised.
        code: The sweep's copy of the code.
        data: The space as the sweep process sent it.
    """
    if isinstance(error, UserError) and error.__context__ is not None:
        error = error.__context__  # a failed import is wrapped in an error that adds the line
    if isinstance(error, FileNotFoundError):
        name = error.filename
        if isinstance(name, str) and os.path.isabs(name):
            original = Path(os.path.normpath(root_of(data) / os.path.relpath(name, code)))
            if original.exists():
                return (
                    "; the workers run a copy of the space's folder, which does not include"
                    f" anything above it; use the path {original}"
                )
    elif isinstance(error, ModuleNotFoundError) and error.name is not None:
        top, root = error.name.partition(".")[0], root_of(data)
        for folder in (root, *root.parents[:-1]):
            if (folder / top).is_dir() or (folder / f"{top}.py").is_file():
                return (
                    "; the workers run a copy of the space's folder, which does not include"
                    f" {folder / top}; move the space to {folder}, or set PYTHONPATH={folder}"
                )
    return ""
