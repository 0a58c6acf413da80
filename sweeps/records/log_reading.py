"""Reads a sweep's logs, or one trial's part of the workers' logs, even while they are written.

Runs in the verb `logs`. A worker begins each job with `job_line`, which marks a trial's part. It
must not know what the lines mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sweeps.records.folder import SweepFolder

_JOB = re.compile(r"(\S+), attempt \d+, seed [^:]+: \{")
_WORKERS = re.compile(r"group(\d+)-rank(\d+)\.log")


def worker_log(folder: SweepFolder, group: int, rank: int) -> Path:
    """Return the log of a worker: all jobs of its group, one after another."""
    return folder.logs / f"group{group}-rank{rank}.log"


def job_line(
    trial: str, attempt: int, seed: int | None, params: Mapping[str, Any], note: str
) -> str:
    """Return the line that begins a job in a worker's log."""
    return f"{trial}, attempt {attempt}, seed {seed}: {dict(params)}; {note}"


class Logs:
    """The logs of a sweep, or one trial's part of them; each call reads what is new.

    Args:
        folder: The sweep's folder.
        trial: A trial, a run of the confirmation, or `smoke`; None: all logs.
    """

    def __init__(self, folder: SweepFolder, trial: str | None) -> None:
        self._folder, self._trial = folder, trial
        self._read: dict[Path, int] = {}
        """Bytes already read of each file."""
        self._job: dict[Path, str] = {}
        """The trial that the last line of each file belongs to."""

    def new_lines(self) -> Iterator[tuple[str, str]]:
        """Yield the file name and text of each new line, one file after another.

        A line without its end is left for the next call.
        """
        for file in self._files():
            with file.open("rb") as log:
                log.seek(self._read.get(file, 0))
                for line in log:
                    if not line.endswith(b"\n"):
                        break
                    self._read[file] = self._read.get(file, 0) + len(line)
                    text = line.decode(errors="replace").rstrip("\r\n")
                    if begun := _JOB.match(text):
                        self._job[file] = begun[1]
                    if self._trial in (None, self._job.get(file)):
                        yield file.name, text

    def _files(self) -> list[Path]:
        """Return the files by group and rank; if no trial is given, the other files come first."""
        found = [(_WORKERS.fullmatch(file.name), file) for file in self._folder.logs.glob("*.log")]
        workers = sorted((int(m[1]), int(m[2]), file) for m, file in found if m is not None)
        others = sorted(file for m, file in found if m is None and self._trial is None)
        return [*others, *(file for _, _, file in workers)]
