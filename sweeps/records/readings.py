"""How often a sweep's models were evaluated on the test split: one line per evaluation.

Written by an export's model process before it reads the split, and read by the export. It must not
know the results.
"""

from __future__ import annotations

import json
import os
import time

from sweeps.records.folder import SweepFolder
from sweeps.records.remote import of

FILE = "test_reads.jsonl"


def note_test_read(folder: SweepFolder, trial: str) -> None:
    """Record a reading of the test split on disk, before it happens."""
    _fetch(folder)
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "trial": trial})
    with (folder.path / FILE).open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if folder.storage is not None:
        of(folder).upload(folder.path / FILE, FILE)


def count_test_reads(folder: SweepFolder) -> int:
    """Return how often the test split was read."""
    _fetch(folder)
    file = folder.path / FILE
    return len(file.read_text().splitlines()) if file.exists() else 0


def _fetch(folder: SweepFolder) -> None:
    if folder.storage is not None and of(folder).changed(FILE) != [None]:
        of(folder).download(FILE, folder.path / FILE)
