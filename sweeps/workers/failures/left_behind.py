"""Locates a file or module that a worker lacks because only the space's folder is copied.

Runs in a worker, after an error of the user's code. It must not know about jobs.
"""

from __future__ import annotations

import os
from contextlib import suppress
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
    with suppress(OSError):  # a folder that cannot be read must not hide the error
        if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
            return _file(error.filename, code, root_of(data))
        if isinstance(error, ModuleNotFoundError) and error.name is not None:
            return _module(error.name, root_of(data))
    return ""


def _file(name: str, code: Path, root: Path) -> str:
    """Return what to do about a file that the user's code looks up relative to its own place.

    Only such a path lies below the storage folder, two levels above the copy. Any other may be one
    that the user wrote.
    """
    if not Path(name).is_relative_to(code.parents[1]):
        return ""
    original = Path(os.path.normpath(root / os.path.relpath(name, code)))
    if not original.exists():
        return ""
    return (
        "; the workers run a copy of the space's folder, which does not include anything above it;"
        f" use the path {original}"
    )


def _module(name: str, root: Path) -> str:
    """Return what to do about a module, or a folder of modules, in or above the root."""
    for folder in (root, *root.parents[:-1]):
        place = folder.joinpath(*name.split("."))
        if any(place.glob("*.py")) or place.with_suffix(".py").is_file():
            return (
                "; the workers run a copy of the space's folder, which does not include"
                f" {place}; move the space to {folder}, or set PYTHONPATH={folder}"
            )
    return ""
