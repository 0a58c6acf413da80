"""The folder of a sweep: the paths of its files, and how a sweep is found by name.

Used by the sweep process and by every reader. It must not know what the files mean.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.config import command
from sweeps.naming import pick, some

NAME_BYTES = 180
"""Maximum length of a space's name in a sweep id, in bytes. A file name has at most 255; the rest
of the id takes 22, and files named after the id need some more."""
LATEST = 5
"""How many sweeps the message about an unknown one lists."""
SWEEP_ID = re.compile(r"(?P<space>.+)-\d{8}-\d{4}-[a-z0-9]{4}")


@dataclass(frozen=True)
class SweepFolder:
    """The paths of one sweep."""

    path: Path
    storage: str | None = None
    """URI below which record, code, log and checkpoints are also stored; None: only here."""

    @property
    def id(self) -> str:
        """The sweep id."""
        return self.path.name

    def command(self, verb: str, *options: str) -> str:
        """Return the command line of a verb that finds the sweep here."""
        return command(verb, self.id, *options, storage=self.storage or self.path.parent)

    @property
    def record_file(self) -> Path:
        """`sweep.json`, the resolved request; `sweep_record.py` reads and writes it."""
        return self.path / "sweep.json"

    @property
    def events_file(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def study(self) -> Path:
        """A copy of the trials for optuna-dashboard."""
        return self.path / "study.journal"

    @property
    def trackers(self) -> Path:
        """The saved position of each tracker in the event log, one file per tracker."""
        return self.path / "trackers"

    @property
    def scratch(self) -> Path:
        """Deleted at the end of the sweep process: files of Ray and of the smoke run."""
        return self.path / "scratch"

    @property
    def smoke(self) -> SweepFolder:
        """The folder where the smoke run saves, laid out like a sweep's; deleted afterwards."""
        return SweepFolder(self.scratch / f"{self.id}-smoke", self.storage)

    @property
    def code(self) -> Path:
        """The search space and its helper modules, as they ran."""
        return self.path / "code"

    @property
    def checkpoints(self) -> Path:
        """One folder per trial, with HF checkpoint folders."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Output of Ray, HF and the workers; tracebacks."""
        return self.path / "logs"

    def traceback(self, of: str, attempt: int) -> Path:
        """Return the file for the traceback of an attempt of a trial, or of `smoke`."""
        return self.logs / f"{of}-attempt{attempt}.traceback"

    @property
    def written(self) -> Path:
        """What trials write to relative paths on a node that lacks their working folder."""
        return self.path / "written"

    def place(self, name: str) -> str:
        """Return the path or URI of a file in the folder, to show to people."""
        if self.storage is None:
            return str(self.path / name)
        return f"{self.storage.partition('?')[0].rstrip('/')}/{self.id}/{name}"

    @property
    def prepared(self) -> Path:
        """Prepared data, shared by all sweeps of a storage folder."""
        return prepared_of(self.path.parent)


def prepared_of(storage: Path) -> Path:
    """Return where a storage folder keeps prepared data."""
    return storage / "prepared"


def new_sweep_id(space: str) -> str:
    """Return a new id: `bert_yelp-20261122-0741-k3f9` (local time)."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
    tail = "".join(secrets.choice(alphabet) for _ in range(4))
    return f"{name_in_id(space)}-{time.strftime('%Y%m%d-%H%M')}-{tail}"


def name_in_id(space: str) -> str:
    """Return a space's name, or its beginning and a hash if it is too long for an id."""
    encoded = os.fsencode(space)
    if len(encoded) <= NAME_BYTES:
        return space
    begin = encoded[: NAME_BYTES - 7].decode(errors="ignore")
    return f"{begin}-{hashlib.sha256(encoded).hexdigest()[:6]}"


def find_sweep(storage: Path, name: str) -> SweepFolder:
    """Return the sweep with this id, or the latest one of the space with this name.

    Raises:
        UserError: There is no such sweep; the message lists the most recent ones.
    """
    return SweepFolder(storage / choose_sweep(sweeps_in(storage), name, storage))


def sweeps_in(storage: Path) -> list[str]:
    """Return the ids of the sweeps in a folder that have begun, the latest last."""
    folders = sorted(
        (
            path.parent
            for path in storage.glob("*/events.jsonl")
            if SWEEP_ID.fullmatch(path.parent.name) and path.with_name("sweep.json").exists()
        ),
        key=lambda path: (path / "sweep.json").stat().st_mtime_ns,
    )
    return [path.name for path in folders]


def choose_sweep(ids: Sequence[str], name: str, storage: Path | str) -> str:
    """Return the sweep with this id, or the last one of the space with this name.

    The beginning of an id is enough if no other id begins with it.

    Args:
        ids: The existing sweeps, the latest last.
        name: The name as the user typed it.
        storage: Where these sweeps are, for messages.

    Raises:
        UserError: There is no such sweep, or several; the message lists the most recent ones.
    """
    of_space = [sweep for sweep in ids if space_in_id(sweep) == name_in_id(name)]
    if of_space and name not in ids:
        return of_space[-1]
    latest = ids[::-1]
    return pick("sweep", name, latest, place=str(storage), known=some(latest, LATEST))


def space_in_id(sweep: str) -> str:
    """Return what a sweep's id begins with: its space's name, or `name_in_id` of it."""
    return sweep.rsplit("-", 3)[0]
