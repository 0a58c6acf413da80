"""The events of a sweep, as its log keeps them.

A field marked `FREE_TEXT` holds what people or libraries wrote; the log hides secrets in it. Other
texts (ids, paths and fixed words) are stored unchanged.

Created in the sweep process, the exchange and the workers. It must not know what follows from them
(`history.py`), nor how they are stored (`event_log.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.report import Report
from sweeps.secrets import FREE_TEXT

CheckpointKind = Literal["state", "best"]
FailureKind = Literal["error", "out_of_memory", "diverged", "stalled"]
AttemptOutcome = Literal["done", "paused", "interrupted", "preempted", "crowded"] | FailureKind
Decision = Literal["continue", "stop", "pause"]
Phase = Literal["training", "evaluation"]
TrialEnd = Literal["finished", "stopped_early", "failed"]
Origin = Literal["first_params", "searcher", "repeat"]
SweepEnd = Literal["finished", "failed"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a sweep."""

    time: float = field(default_factory=time.time)
    """Unix time in seconds."""


@dataclass(frozen=True, kw_only=True)
class SweepStarted(Event):
    """A sweep process started: the first event of a log, and the first after each resume."""

    sweep: str
    devices: str | None = None
    """Kinds of the GPUs in use, as Ray names them (`H100`), or `CPU`; None: not recorded."""


@dataclass(frozen=True, kw_only=True)
class SmokeMeasured(Event):
    """The smoke run has taken its steps and evaluated."""

    steps: int
    """Optimizer steps of a complete trial."""
    step_s: float | None
    """Seconds of an optimizer step, without compiling; None if only both together are known."""
    batches: int | None
    """Batches of a full evaluation on one worker; None if unknown."""
    batch_s: float | None
    """Seconds of an evaluation batch, without compiling; None if only both together are known, or
    if the evaluation does not use HF's data loader."""
    metrics: Mapping[str, float]
    """What the evaluation produced, by HF's names."""
    gpu_memory: int | None = None
    """Peak bytes in use on the GPU, including the run's CUDA context; None: no GPU."""
    diverged: str | None = None
    """What was not a finite number; None if everything was finite."""
    mean_loss: bool = False
    """Whether HF's loss scaling was corrected, for a model whose loss is a mean."""


@dataclass(frozen=True, kw_only=True)
class SmokeEnded(Event):
    """Every worker has left the smoke run, or its group is lost."""

    attempt: int
    """From 1."""
    outcome: AttemptOutcome
    """`done`: it trained, evaluated, saved and continued from the saved state."""
    message: str | None = field(default=None, metadata=FREE_TEXT)
    """One line: the error of the rank that caused the failure."""
    traceback: str | None = field(default=None, metadata=FREE_TEXT)
    fixable: bool = False
    """Whether a rank raised a `UserError`."""
    device_s: float
    """Device-seconds: the seconds for which the group had the job, times its devices."""


@dataclass(frozen=True, kw_only=True)
class TrialSuggested(Event):
    """A new trial has its params: new ones from the searcher, or those of an earlier trial."""

    trial: str
    params: Mapping[str, Any] = field(metadata=FREE_TEXT)
    origin: Origin
    seed: int
    """HF `seed`."""
    of: str | None = None
    """For a `repeat`, the trial whose params it has."""


@dataclass(frozen=True, kw_only=True)
class JobStarted(Event):
    """A worker group took a trial's job."""

    trial: str
    attempt: int
    """From 1."""
    group: int
    devices: float
    """GPUs of the group, a shared one counted as a fraction; its workers if it has no GPU."""


@dataclass(frozen=True, kw_only=True)
class GpuMeasured(Event):
    """A trial with a GPU to itself has shown how much of that GPU it uses."""

    trial: str
    busy: float | None
    """Share of the training time, 0 to 1, in which a kernel ran on the GPU; None if NVML does not
    report it."""
    memory: int
    """Peak bytes in use on the GPU so far, as in `SmokeMeasured`."""
    total: int
    """Total bytes of the GPU."""


@dataclass(frozen=True, kw_only=True)
class Reported(Event):
    """A trial evaluated."""

    report: Report


@dataclass(frozen=True, kw_only=True)
class Decided(Event):
    """The answer to a report."""

    trial: str
    number: int
    decision: Decision
    """What the trial does next; one that pauses saves its state and frees its group."""
    save_best: bool
    save_state: bool
    diverged: str | None = None
    """What was not a finite number, if that is why the trial stops."""
    out_of_time: bool = False
    """Whether the trial stops because the time budget is used up."""


@dataclass(frozen=True, kw_only=True)
class TrialResumed(Event):
    """The scheduler resumes a paused trial, which may still be saving its state."""

    trial: str


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is complete: its end marker is written."""

    trial: str
    number: int
    """Number of the newest report before it; 0 before the first."""
    kind: CheckpointKind
    path: str
    """Folder, relative to the sweep's."""
    sha256: str
    """SHA-256 of the weight files, in the order of their names; of none for a state in parts."""


@dataclass(frozen=True, kw_only=True)
class CheckpointDropped(Event):
    """A checkpoint is about to be deleted."""

    trial: str
    kind: CheckpointKind
    path: str
    """Folder, relative to the sweep's."""


@dataclass(frozen=True, kw_only=True)
class AttemptEnded(Event):
    """Every worker has left a job, or the group is lost."""

    trial: str
    attempt: int
    outcome: AttemptOutcome
    """`done`: the trainer returned, at its end or where the trial was to stop. `paused`: it saved
    its state and left. `interrupted` (the sweep process or its exchange ended), `preempted` (its
    node was removed) and `crowded` (a shared GPU's memory ran out) are not the trial's fault."""
    phase: Phase | None = None
    """The phase that did not fit, if memory ran out."""
    message: str | None = field(default=None, metadata=FREE_TEXT)
    """One line: the error of the rank that caused the failure."""
    traceback: str | None = field(default=None, metadata=FREE_TEXT)
    fixable: bool = False
    """Whether it would come again without a fix by the user: a `UserError`, or a full disk."""
    train_s: float
    """Seconds inside `Trainer.train()`."""
    device_s: float
    """Device-seconds: the seconds for which the group had the job, times its devices."""


@dataclass(frozen=True, kw_only=True)
class TrialEnded(Event):
    """A trial will not run again."""

    trial: str
    status: TrialEnd
    failure: FailureKind | None = None


@dataclass(frozen=True, kw_only=True)
class SweepEnded(Event):
    """The sweep ended; an interrupted one has no such event."""

    status: SweepEnd
    reason: str | None = field(default=None, metadata=FREE_TEXT)


@dataclass(frozen=True, kw_only=True)
class ConfirmationStarted(Event):
    """A confirmation began: params of the search run again with fresh seeds."""

    arms: Sequence[str]
    """Ids of params sets: the search's best, best first, and last the baseline if it is not among
    them."""
    baseline: str
    """The params set that the search's winner is compared with."""
    seeds: Sequence[int]
    """HF seeds, the same for all arms; no trial of the search used any of them."""


@dataclass(frozen=True, kw_only=True)
class OfConfirmation(Event):
    """An event of the confirmation, whose runs are not trials of the search."""

    inner: Event
    """The event as a search would log it; its trial ids are those of the runs, such as `c001`."""


def seconds_between(start: float, end: float) -> float:
    """Return the seconds between two Unix times; 0 where the clock was set back in between."""
    return max(0.0, end - start)


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        SweepStarted,
        SmokeMeasured,
        SmokeEnded,
        TrialSuggested,
        JobStarted,
        GpuMeasured,
        Reported,
        Decided,
        TrialResumed,
        CheckpointSaved,
        CheckpointDropped,
        AttemptEnded,
        TrialEnded,
        SweepEnded,
        ConfirmationStarted,
        OfConfirmation,
    )
}
