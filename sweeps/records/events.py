"""The events of a sweep, and the log that is the one truth about it: `events.jsonl`.

The sweep process alone writes; anyone reads, while it is being written too. It must not know
what is concluded from the events: that is `history.py`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from sweeps.errors import SweepError
from sweeps.records.secrets import redacted
from sweeps.space.report import Report, Sample

CheckpointKind = Literal["state", "best"]
FailureKind = Literal["error", "out_of_memory", "diverged", "stalled"]
AttemptOutcome = Literal["done", "interrupted", "preempted"] | FailureKind
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
    """A sweep process took the sweep up: the first event, and the first after each resume."""

    sweep: str
    devices: str | None = None
    """Kinds of the GPUs in use, as Ray names them (`H100`), or `CPU`; None: not said."""


@dataclass(frozen=True, kw_only=True)
class SmokeMeasured(Event):
    """The smoke run took its steps and evaluated."""

    steps: int
    """Optimizer steps of a whole trial."""
    step_s: float
    """Seconds of an optimizer step."""
    batches: int | None
    """Batches of a whole evaluation on one worker; None where that is not known."""
    batch_s: float | None
    """Seconds of an evaluation batch; None where evaluating takes no data loader of HF's."""
    metrics: Mapping[str, float]
    """What the evaluation produced, by HF's names."""
    diverged: str | None = None
    """What is not a finite number."""


@dataclass(frozen=True, kw_only=True)
class SmokeEnded(Event):
    """Every worker has left the smoke run, or its group is lost."""

    attempt: int
    """From 1."""
    outcome: AttemptOutcome
    """`done`: it trained, evaluated, saved and went on from there."""
    message: str | None = None
    """One line: the guilty rank's error."""
    traceback: str | None = None
    fixable: bool = False
    """Whether a rank raised a `UserError`."""
    device_s: float
    """Seconds the group was leased x its devices."""


@dataclass(frozen=True, kw_only=True)
class TrialSuggested(Event):
    """A new trial has its params: the searcher's, or those of an earlier trial again."""

    trial: str
    params: Mapping[str, Any]
    origin: Origin
    seed: int | None = None
    """HF `seed`; logs of before 2026-11-25 do not say it: the space's or the config's."""
    of: str | None = None
    """The trial whose params a `repeat` has."""


@dataclass(frozen=True, kw_only=True)
class JobStarted(Event):
    """A worker group took a trial's job."""

    trial: str
    attempt: int
    """From 1."""
    group: int
    devices: int
    """GPUs of the group; its workers where there is no GPU."""


@dataclass(frozen=True, kw_only=True)
class Reported(Event):
    """A trial evaluated."""

    report: Report


@dataclass(frozen=True, kw_only=True)
class Decided(Event):
    """The answer to a report."""

    trial: str
    number: int
    stop: bool
    save_best: bool
    save_state: bool
    diverged: str | None = None
    """What is not a finite number, where that is why the trial stops."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is whole: its end marker is written."""

    trial: str
    number: int
    """Number of the newest report before it; 0 before the first."""
    kind: CheckpointKind
    path: str
    """Folder, relative to the sweep's."""
    sha256: str
    """Of the weight files, in the order of their names."""


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
    """`done`: the trainer returned, at its end or where it was told to stop. `interrupted` (the
    sweep process or its exchange ended) and `preempted` (a node went) are not the trial's fault."""
    phase: Phase | None = None
    """What did not fit, where memory ran out."""
    message: str | None = None
    """One line: the guilty rank's error."""
    traceback: str | None = None
    fixable: bool = False
    """Whether a rank raised a `UserError`: no other trial will fare better."""
    train_s: float
    """Seconds inside `Trainer.train()`."""
    device_s: float
    """Seconds the group was leased x its devices."""


@dataclass(frozen=True, kw_only=True)
class TrialEnded(Event):
    """A trial will not run again."""

    trial: str
    status: TrialEnd
    failure: FailureKind | None = None


@dataclass(frozen=True, kw_only=True)
class SweepEnded(Event):
    """The sweep came to its end; an interrupted one has no such event."""

    status: SweepEnd
    reason: str | None = None


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        SweepStarted,
        SmokeMeasured,
        SmokeEnded,
        TrialSuggested,
        JobStarted,
        Reported,
        Decided,
        CheckpointSaved,
        CheckpointDropped,
        AttemptEnded,
        TrialEnded,
        SweepEnded,
    )
}


def encode(event: Event) -> str:
    """Return the event as one line of JSON; NaN and infinities as Python's `json` writes them.

    Secrets are left out.
    """
    return json.dumps(redacted({"event": type(event).__name__, **dataclasses.asdict(event)}))


def decode(line: str) -> Event:
    """Return the event of one line."""
    fields = json.loads(line)
    kind = EVENTS[fields.pop("event")]
    if kind is Reported:
        report = fields.pop("report")
        samples = tuple(Sample(**sample) for sample in report.pop("samples"))
        fields["report"] = Report(**report, samples=samples)
    return kind(**fields)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield each whole event from byte `offset` on, with the offset behind it.

    A torn last line is left alone: it is being written, or was cut off by a kill.
    """
    with path.open("rb") as log:
        log.seek(offset)
        for line in log:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield decode(line.decode()), offset


class SweepIsRunning(SweepError):
    """The log is held by another process."""

    exit_code = 2


class EventLog:
    """The one writer of a log; holds its lock until closed.

    Args:
        path: `events.jsonl`, made if missing.
        observers: Called with each event once it is on disk, in log order; may grow.

    Raises:
        SweepIsRunning: Another process holds the log.
    """

    def __init__(self, path: Path, observers: Sequence[Callable[[Event], None]]) -> None:
        self._file = path.open("ab", buffering=0)
        self._sweep = path.parent.name
        self._failed: SweepError | None = None
        for attempt in range(5):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 4:
                    self._file.close()
                    message = f"{path.parent.name} is running: its log is held"
                    raise SweepIsRunning(message) from None
                time.sleep(0.02)  # a reader's `is_held` takes the lock for an instant
        whole = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)
        self._observers = observers
        self.lock = RLock()
        """Hold it to read what observers keep, or to decide and append without a gap."""

    def append(self, *events: Event) -> None:
        """Write the events, flush them to disk, then tell the observers.

        Raises:
            SweepError: They cannot be written; nothing is from then on, and a resume goes on from
                what stands there.
        """
        with self.lock:
            if self._failed is not None:
                raise self._failed
            try:
                self._write(events)
            except OSError as error:
                self._failed = SweepError(
                    f"{self._file.name} cannot be written ({error.strerror or error}); the sweep"
                    f" stops. Make room, then: python -m sweeps resume {self._sweep}"
                )
                raise self._failed from error
            for event in events:
                for observe in self._observers:
                    observe(event)

    def _write(self, events: Sequence[Event]) -> None:
        lines = "".join(encode(event) + "\n" for event in events).encode()
        while lines:  # a disk that is nearly full takes a part
            lines = lines[self._file.write(lines) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the log, which frees its lock."""
        self._file.close()


def is_held(path: Path) -> bool:
    """Tell whether a sweep process holds the log."""
    with path.open("rb") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
