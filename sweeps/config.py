"""How much a sweep may spend, and where it runs: `SweepConfig`.

Created from the command line or in Python, before anything starts. It must not hold anything that
belongs to the experiment itself: that is the job of the search space.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sweeps.declared_types import known_fields, settle_fields
from sweeps.errors import UserError

ARTIFACTS = "mlartifacts"
"""The folder of MLflow's artifacts, in the storage folder."""


@known_fields
@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """How much a sweep may spend, where it runs, and where it stores its results."""

    num_trials: int = 32
    """Number of trials to start, including repeats; at least 1."""
    repeats: int = 1
    """Trials per params set, each with the next seed; params sets are judged by the mean."""
    time_budget: timedelta | None = None
    """Once this time (`2h`) has passed since the first trial started, no new trial starts, running
    trials stop at their next evaluation, and paused ones end."""
    workers_per_trial: int = 1
    """Worker processes that train one trial together (DDP, FSDP or DeepSpeed)."""
    gpus_per_worker: float | None = None
    """GPUs per worker. Default: 1 if the cluster has GPUs, else 0. A fraction such as 0.5 needs one
    worker per trial, and shares GPUs without measuring first."""
    trials_per_gpu: int = 4
    """Maximum number of trials that share a GPU; 1 turns sharing off. The first trial runs alone,
    to measure how many fit. Only for trials with one worker."""
    cpus_per_worker: int | None = None
    """CPUs per worker. Default: 1 without GPUs, else CPUs / GPUs of the smallest node, divided by
    the trials that may share a GPU; at most 8."""
    max_concurrent: int | None = None
    """Maximum number of concurrent trials. Default: as many as fit on the cluster. Required on an
    autoscaling cluster."""
    searcher: str = "optuna"
    """Proposes params: `optuna` (its TPE), `random`, or `module:factory` of a Ray searcher."""
    scheduler: str = "asha"
    """Stops weak trials early: `asha`, `median` (the median stopping rule), `fifo` (stops none), or
    `module:factory` of your own scheduler, or of a Ray scheduler that only stops trials."""
    first_rung: float = 0.125
    """Fraction of a trial that always runs before `asha` or `median` may stop it, in (0, 1)."""
    reduction_factor: float = 4.0
    """ASHA lets about one in this many trials continue at each rung; greater than 1."""
    resume_every: timedelta = timedelta(seconds=60)
    """Training time between two saved states of a running trial; 0s: at every evaluation."""
    max_failures: int = 2
    """How many times a trial is retried after errors and stalls; preempted attempts do not
    count."""
    max_failed_trials: int = 5
    """The sweep stops if this many trials at its start all fail with the same exception."""
    stall_timeout: timedelta = timedelta(minutes=30)
    """An attempt ends after this time without an optimizer step or an evaluation batch."""
    start_timeout: timedelta = timedelta(minutes=30)
    """The sweep gives up on a worker group that has waited this long for resources."""
    keep_checkpoints: int = 3
    """How many of the best trials keep their best checkpoint, at least 1; with repeats, the best
    trial of each of this many params sets."""
    warm_start: str | None = None
    """A sweep that has ended, given by its id or the name of its space; the searcher observes its
    trials first."""
    seed: int = 0
    """Seed of the searcher, and of the trials unless the space sets one."""
    storage: str = "./results"
    """Folder for all results, or the URI of an object store: `s3://BUCKET/PATH`."""
    trackers: Sequence[str] = ("mlflow",)
    """Tool that gets a copy of the sweep: `mlflow` or `tensorboard`. Can be repeated."""
    tracking_uri: str | None = None
    """MLflow store. Default: an SQLite file in the storage folder."""
    address: str | None = None
    """Ray cluster to use. Default: $RAY_ADDRESS, or else a new local instance."""
    tiny: bool = False
    """Run the space with its builder's tiny model and data, without network access."""
    fresh_workers: bool = False
    """Give every trial new worker processes instead of warm ones."""
    smoke: bool = True
    """Before the first trial, train four steps, evaluate four batches, save a state and continue
    from it, so that a bug costs only seconds."""

    def __post_init__(self) -> None:
        if problems := settle_fields(self):  # their values cannot be checked
            raise UserError(problems, "the configuration")
        # JSON and the command line give a list, which must equal the tuple.
        object.__setattr__(self, "trackers", tuple(dict.fromkeys(self.trackers)))
        problems = [
            *(
                f"{name} = '': must not be empty"
                for name, value in vars(self).items()
                if value == ""
            ),
            *self._too_small("num_trials", 1),
            *self._too_small("repeats", 1),
            *self._too_small("workers_per_trial", 1),
            *self._too_small("cpus_per_worker", 1),
            *self._too_small("trials_per_gpu", 1),
            *self._too_small("max_concurrent", 1),
            *self._too_small("keep_checkpoints", 1),
            *self._too_small("max_failures", 0),
            *self._too_small("max_failed_trials", 1),
            *self._too_small("gpus_per_worker", 0),
            *self._too_small("seed", 0),
        ]
        if self.repeats > 1 and (over := self.num_trials % self.repeats):
            below, above = self.num_trials - over, self.num_trials - over + self.repeats
            problems.append(
                f"num_trials = {self.num_trials}: must be a multiple of repeats = {self.repeats};"
                f" nearest: {f'{below} or ' if below > 0 else ''}{above}"
            )
        if not 0 < self.first_rung < 1:
            problems.append(f"first_rung = {self.first_rung}: must be between 0 and 1")
        if not 1 < self.reduction_factor < math.inf:
            problems.append(
                f"reduction_factor = {self.reduction_factor}: must be a finite number above 1"
            )
        if self.resume_every < timedelta(0):
            problems.append(f"resume_every = {self.resume_every}: must not be negative")
        for name in ("time_budget", "stall_timeout", "start_timeout"):
            value = getattr(self, name)
            if value is not None and value <= timedelta(0):
                problems.append(f"{name} = {value}: must be greater than 0")
        gpus = self.gpus_per_worker or 0
        if not math.isfinite(gpus):
            problems.append(f"gpus_per_worker = {gpus}: must be a finite number")
        elif gpus != int(gpus) and (self.workers_per_trial > 1 or gpus > 1):
            problems.append(
                f"gpus_per_worker = {gpus}: must be a whole number, or below 1 with"
                " workers_per_trial = 1 (NCCL allows one rank per GPU)"
            )
        if self.storage.startswith("file://"):
            problems.append(f"storage = {self.storage!r}: pass the folder itself, without file://")
        if problems:
            raise UserError(problems, "the configuration")

    def _too_small(self, name: str, least: int) -> list[str]:
        value = getattr(self, name)
        if value is None or value >= least or value != value:  # NaN has its own message
            return []
        return [f"{name} = {value}: must be at least {least}"]

    @property
    def storage_folder(self) -> Path:
        """The local folder of all sweeps, absolute; `./results` if the storage is a URI."""
        return storage_folder(self.storage)

    @property
    def mlflow_store(self) -> str:
        """The URI of the MLflow store."""
        return self.tracking_uri or default_tracking_uri(self.storage_folder)

    @property
    def mlflow_artifacts(self) -> Path:
        """The folder of MLflow's artifacts, unless the store is a server."""
        return self.storage_folder / ARTIFACTS

    @property
    def params_sets(self) -> int:
        """Number of params sets."""
        return self.num_trials // self.repeats

    def in_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with durations in seconds."""
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, timedelta):
                value = value.total_seconds()
            fields[field.name] = list(value) if isinstance(value, tuple) else value
        return fields


def is_uri(storage: str | Path) -> bool:
    """Tell whether a `--storage` value is object storage rather than a folder."""
    return "://" in str(storage)


def storage_folder(storage: str | Path) -> Path:
    """Return the local folder of all sweeps, absolute; `./results` if the storage is a URI."""
    return Path("results" if is_uri(storage) else storage).expanduser().resolve()


def command(*words: str, storage: str | Path) -> str:
    """Return a `sweeps` command line, with `--storage` unless it is the default."""
    where = [] if _is_default(storage) else ["--storage", str(storage)]
    return shlex.join(["python", "-m", "sweeps", *words, *where])


def call(verb: str, sweep: str, *, storage: str | Path) -> str:
    """Return the call in Python that does what a verb does to a sweep whose space has no file."""
    where = "" if _is_default(storage) else f", storage={str(storage)!r}"
    return f"sweeps.{verb}({sweep!r}, space=...{where})"


def _is_default(storage: str | Path) -> bool:
    return not is_uri(storage) and storage_folder(storage) == storage_folder(SweepConfig().storage)


def default_tracking_uri(storage: Path) -> str:
    """Return the URI of the SQLite store in the storage folder."""
    return f"sqlite:///{(storage / 'mlflow.db').absolute()}"
