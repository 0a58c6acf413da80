"""The seed of Python's string hashes: all processes of a sweep, and of its resumes, have the same.

It decides in which order a process iterates over a set of strings. Without a fixed seed, class ids
that a script takes from such a set would differ between ranks, and after a resume. Python reads the
seed only when a process starts. This module must not import anything heavy.
"""

from __future__ import annotations

import os
import sys

_NAME = "PYTHONHASHSEED"


def hash_seed() -> dict[str, str]:
    """Return the seed for a new process, as an environment variable: the user's own, or 0."""
    return {_NAME: _own_seed() or "0"}


def has_hash_seed() -> bool:
    """Tell whether this process was started with that seed, so that its forks have it, too."""
    return _own_seed() is not None and not sys.flags.ignore_environment


def start_again_with_hash_seed() -> None:
    """Replace this process, if it has no seed, by one that runs the same command with a seed.

    Does nothing in a process that was started for something else, such as a notebook with
    `%run -m sweeps`: its own command has other words. Nor does it under a debugger.
    """
    words = sys.argv[1:]
    if _own_seed() or sys.gettrace() or not words or sys.orig_argv[-len(words) :] != words:
        return
    os.environ.update(hash_seed())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _own_seed() -> str | None:
    """Return the seed in the environment; None if each process has another one."""
    seed = os.environ.get(_NAME)
    return None if seed in ("", "random") else seed
