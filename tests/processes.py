"""The processes that a command starts: marked by its folder, and looked for after its end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil

_MARK = "SWEEPS_TEST_FOLDER"
END_S = 60.0
"""Within this, processes end on a busy machine."""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They outlive a Ray instance whose driver was killed by a minute, and hold nothing (ray 2.60)."""


def marking(folder: Path) -> dict[str, str]:
    """Return an environment for a command; every process that it starts inherits the mark."""
    # Without the second, Ray's process titles are written over the environment.
    return {**os.environ, _MARK: str(folder), "SPT_NOENV": "1"}


def marked(folder: Path) -> list[psutil.Process]:
    """Return the live processes that the command has started, the newest first."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == str(folder):
                found.append(process)
    return found[::-1]


def left_behind(folder: Path, but_for: tuple[str, ...] = ()) -> list[list[str]]:
    """Return the command lines of marked processes that do not end within a while.

    Args:
        folder: Marks them.
        but_for: How the titles begin of those that may live on.
    """
    words = {}
    for process in marked(folder):
        with suppress(psutil.Error):
            title = process.cmdline()
            if not " ".join(title).startswith(but_for):
                words[process] = title
    return [words[process] for process in psutil.wait_procs(words, timeout=END_S)[1]]
