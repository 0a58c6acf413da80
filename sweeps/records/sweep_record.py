"""`sweep.json`: what a sweep was asked to do and what it ran on, with its only reader and writer.

Used by the sweep process and by every reader. It must not know how a record is made
(`driver/requests/make_sweep_record.py`), nor import Ray.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from sweeps.config import SweepConfig
from sweeps.durable import write_whole
from sweeps.errors import UserError
from sweeps.records.events import TrialSuggested
from sweeps.records.folder import SweepFolder
from sweeps.records.provenance import GitState
from sweeps.report import Mode
from sweeps.secrets import FREE_TEXT, without_secrets
from sweeps.space.builder import Pipeline
from sweeps.space.domain_data import DomainData

VERSION = 2
"""Format of `sweep.json`. Raise it with every change that an older or newer reader cannot read."""


@dataclass(frozen=True, kw_only=True)
class SpaceRecord:
    """A search space as it ran, with all overrides applied."""

    name: str
    """The space's name: `bert_yelp`."""
    metric: str
    mode: Mode
    builder: str = field(metadata=FREE_TEXT)
    """The builder with its fields, or a function's dotted name."""
    fields: Mapping[str, Any] = field(default_factory=dict, metadata=FREE_TEXT)
    """The values of the builder's fields; empty for a function."""
    pipeline: Pipeline | None
    """How the trained models are served; None: the builder does not say."""
    has_test_split: bool
    """Whether the builder has an `on_test()`."""
    tuned: Mapping[str, Sequence[DomainData]]
    """The domains of each tuned key; if there are several, their conditions exclude each other."""
    fixed: Mapping[str, Any] = field(metadata=FREE_TEXT)
    constraints: Sequence[str]
    """Names of the constraints."""
    first_params: Sequence[Mapping[str, Any]] = field(metadata=FREE_TEXT)
    evals_per_trial: int

    @property
    def domains(self) -> dict[str, str]:
        """The tuned keys as text: `loguniform(1e-05, 0.001) when optim = 'sgd'`."""
        return {key: "; ".join(map(str, domains)) for key, domains in self.tuned.items()}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the space and its overrides came from."""

    file: str | None
    """The space's file, relative to `root`; None for a space made in Python."""
    root: str
    """The folder that the space's imports start from."""
    dotted: bool
    """Whether the space was named as a module below `root`."""
    base: str
    """The folder that relative paths in the space start from."""
    assignments: Sequence[str] = field(metadata=FREE_TEXT)
    """`KEY=VALUE` texts, including the revisions that the builder was pinned to."""


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """One `resume` of the sweep."""

    time: str
    """ISO 8601, local time with offset."""
    command: str = field(metadata=FREE_TEXT)
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class NewCode:
    """The space's files were copied again; later trials ran on the new copies."""

    time: str
    """ISO 8601, local time with offset."""
    files: Sequence[str]
    """The files that had changed, relative to the source's `root`."""
    git: GitState | None


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """The recorded trials that a sweep repeats."""

    sweep: str
    """The id of the sweep that they belong to."""
    trials: Sequence[TrialSuggested]
    """The trials as they were suggested there; the first becomes t001 here."""


@dataclass(frozen=True)
class WarmStartTrial:
    """Params that an earlier sweep tried, and the value that they reached."""

    params: Mapping[str, Any] = field(metadata=FREE_TEXT)
    value: float


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """The content of `sweep.json`."""

    sweep: str
    """The sweep id."""
    command: str = field(metadata=FREE_TEXT)
    """The command or call that started the sweep."""
    user: str
    space: SpaceRecord
    config: SweepConfig
    tracking_uri: str
    """The MLflow store."""
    artifacts: str
    """Folder for MLflow's artifacts, if the store is not a server."""
    source: Source
    git: GitState | None
    """The commit of the space's file; None outside a repository."""
    versions: Mapping[str, str]
    """The versions of Python and of packages by name, when the sweep started."""
    resumed: Sequence[Resumption] = ()
    """In order of time."""
    new_code: Sequence[NewCode] = ()
    """In order of time."""
    rerun_of: Rerun | None = None
    """What the sweep repeats; None: nothing."""
    warm_start_trials: Sequence[WarmStartTrial] = ()
    """What the searcher observes first, since the earlier sweep may change or be deleted."""

    @property
    def newest_versions(self) -> Mapping[str, str]:
        """The versions at the latest start."""
        return self.resumed[-1].versions if self.resumed else self.versions

    @property
    def judged_by(self) -> tuple[str, Mode, int]:
        """Metric, mode and repeats: the arguments of a `History`."""
        return self.space.metric, self.space.mode, self.config.repeats


def write_record(folder: SweepFolder, record: SweepRecord) -> None:
    """Write `sweep.json` without secrets; after a kill, either the old or the new file is there."""
    record = without_secrets(record)
    fields = {**dataclasses.asdict(record), "config": record.config.in_json()}
    content = json.dumps({"version": VERSION, **fields}, indent=2)
    write_whole(folder.record_file, content + "\n")


def read_record(folder: SweepFolder) -> SweepRecord:
    """Return what `sweep.json` says.

    Raises:
        UserError: The file has another format, or is damaged.
    """
    try:
        return _decoded(folder.record_file)
    except (ValueError, msgspec.ValidationError) as error:  # not JSON, or a wrong value
        raise UserError(
            f"{folder.record_file} is damaged: {error}; restore it from a backup"
        ) from error


def _decoded(file: Path) -> SweepRecord:
    found: dict[str, Any] = json.loads(file.read_text())
    version = found.pop("version", None)
    if version != VERSION:
        found_in = "has no format version" if version is None else f"is in format {version}"
        release = found.get("versions", {}).get("sweeps")
        raise UserError(
            f"{file} {found_in}, but this version of sweeps reads format {VERSION}."
            f" Use the version that wrote it{f': sweeps {release}' if release else ''}"
        )
    # Not strict: JSON has a duration as its seconds.
    return msgspec.convert(found, SweepRecord, strict=False)
