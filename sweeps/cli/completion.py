"""What the shell offers when Tab is pressed: spaces, sweeps and trials.

Runs in a separate process at each Tab, so it reads little. It must not fail: if something is wrong,
it offers nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import typer

from sweeps.errors import SweepError
from sweeps.space.shipped import list_spaces


def spaces() -> list[str]:
    """Return the names of the search spaces."""
    return [name for name, space in list_spaces().items() if space.mark != "broken"]


def sweeps(context: typer.Context) -> list[str]:
    """Return the ids of the sweeps in a local storage folder, the newest first."""
    from sweeps.records.folder import SWEEP_ID

    storage = Path(context.params.get("storage") or "results")
    with suppress(OSError):
        found = filter(SWEEP_ID.fullmatch, os.listdir(storage))
        return sorted(found, key=lambda sweep: sweep.rsplit("-", 3)[1:], reverse=True)
    return []


def trials() -> list[str]:
    """Return the trials of the sweep that the command line names."""
    return list(_trials())


def _trials() -> Iterator[str]:
    from sweeps.records.event_log import read_events
    from sweeps.records.events import TrialSuggested
    from sweeps.records.folder import find_sweep

    # While an option waits for its value, typer does not parse the others.
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()
    storage = words[words.index("--storage") + 1] if "--storage" in words[:-1] else "results"
    for word in words[2:]:
        with suppress(OSError, SweepError):
            folder = find_sweep(Path(storage), word)
            for event, _ in read_events(folder.events_file):
                if isinstance(event, TrialSuggested):
                    yield event.trial
            return
