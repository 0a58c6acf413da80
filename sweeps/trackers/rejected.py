"""What a tracker's tool rejects: recorded in a file, logged once, and skipped.

Used by trackers in their own process. It must not know any tool, nor why it rejects something.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from sweeps.records.folder import SweepFolder
from sweeps.secrets import redact
from sweeps.trackers.state import rejected_file

logger = logging.getLogger(__name__)


class Rejected:
    """What one tool has rejected of one sweep.

    Args:
        folder: The sweep's folder.
        name: The tracker's name.
    """

    def __init__(self, folder: SweepFolder, name: str) -> None:
        self._file, self._name = rejected_file(folder, name), name
        self._lines = set(self._file.read_text().splitlines()) if self._file.exists() else set()
        self._said: set[tuple[str, str]] = set()

    def put(self, trial: str, kind: str, name: str, why: str, **values: Any) -> None:
        """Record a rejected item once; log a line for the first of each kind and name.

        Later ones of the same kind and name, such as a metric at the next step, are only recorded.

        Args:
            trial: A trial id; empty for the sweep's own run.
            kind: What it is: a metric, a param, a file.
            name: The name of what is written.
            why: The tool's message.
            values: Whatever else is known about it.
        """
        fields = {"trial": trial, "kind": kind, "name": name, **values, "why": redact(why)}
        line = json.dumps(fields)
        if line in self._lines:
            return  # after a restart, it is written and rejected again
        self._lines.add(line)
        with self._file.open("a") as file:
            file.write(line + "\n")
        if (kind, name) not in self._said:
            self._said.add((kind, name))
            whose = trial or "the sweep"
            logger.warning("%s rejected %s %r of %s: %s", self._name, kind, name, whose, why)
