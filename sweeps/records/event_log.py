"""The event log, the one truth about a sweep: `events.jsonl`.

Only the sweep process writes it; anyone may read it, even while it is being written. This module
must not know what an event means.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from sweeps.errors import SweepError, UserError
from sweeps.records.events import EVENTS, Event, OfConfirmation, Reported
from sweeps.records.folder import SweepFolder
from sweeps.report import LogEntry, Report
from sweeps.secrets import without_secrets

T = TypeVar("T")

PARSER = msgspec.json.Decoder()
NAMES: Mapping[type[Any], set[str]] = {
    kind: {field.name for field in dataclasses.fields(kind)}
    for kind in (*EVENTS.values(), Report, LogEntry)
}
"""The field names of each class that a log holds."""


def encode(event: Event) -> str:
    """Return the event as one line of JSON; NaN and infinities as Python's `json` writes them."""
    return json.dumps(_fields(event))


def _fields(event: Event) -> dict[str, Any]:
    fields = {"event": type(event).__name__, **dataclasses.asdict(event)}
    if isinstance(event, OfConfirmation):
        fields["inner"] = _fields(event.inner)
    return fields


def decode(line: str | bytes) -> Event:
    """Return the event of one line.

    msgspec takes a third of the time of `json` and returns the same values, but it refuses some
    lines that `json` reads: those with NaN, an infinity or a lone surrogate.

    Raises:
        ValueError: The line is not JSON.
    """
    try:
        fields = PARSER.decode(line)
    except (msgspec.DecodeError, UnicodeError):
        fields = json.loads(line)
    return _event(fields)


def _event(fields: dict[str, Any]) -> Event:
    kind = EVENTS[fields.pop("event")]
    if kind is OfConfirmation:
        fields["inner"] = _event(fields["inner"])
    if kind is Reported:
        report = fields["report"]
        report["log_entries"] = tuple([_made(LogEntry, entry) for entry in report["log_entries"]])
        fields["report"] = _made(Report, report)
    return _made(kind, fields)


def _made(kind: type[T], fields: dict[str, Any]) -> T:
    """Return a frozen dataclass with these fields.

    If all fields are given, they are set at once. The constructor sets them one by one, which takes
    four times as long, and a log holds hundreds of thousands of events.
    """
    if fields.keys() != NAMES[kind]:
        return kind(**fields)  # raises on a field that is missing or unknown
    made = object.__new__(kind)
    object.__setattr__(made, "__dict__", fields)
    return made


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield each complete event from byte `offset` on, with the offset of its end.

    An incomplete last line is skipped: it is still being written, or a kill interrupted it.

    Raises:
        UserError: A complete line is not JSON.
    """
    with path.open("rb") as log:
        log.seek(offset)
        for line in log:
            if not line.endswith(b"\n"):
                return
            try:
                event = decode(line)
            except ValueError as error:
                raise UserError(
                    f"{path} is damaged: the line that begins at byte {offset} is not JSON"
                    f" ({error}); restore the file from a backup"
                ) from error
            offset += len(line)
            yield event, offset


class SweepIsRunning(SweepError):
    """The log is held by another process."""

    exit_code = 2


def locked(sweep: str) -> SweepIsRunning:
    """Return the error for a sweep whose log another process has locked."""
    return SweepIsRunning(
        f"{sweep} is running: another process has locked its event log; wait for it to end, or"
        " stop it first"
    )


class Log(Protocol):
    """Where a sweep process writes events: the log, or a confirmation's part of it."""

    def append(self, *events: Event) -> None:
        """Write the events; see `EventLog`."""

    def check(self) -> None:
        """Check that the file is where it was opened; see `EventLog`."""

    def close(self) -> None:
        """Close the log, which frees its lock."""


class ConfirmationLog:
    """The confirmation's part of a log.

    Args:
        log: The sweep's log.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.check = log.check
        self.close = log.close

    def append(self, *events: Event) -> None:
        """Write the events as those of the confirmation."""
        self._log.append(*(OfConfirmation(time=event.time, inner=event) for event in events))


class EventLog:
    """The only writer of a log, used by one thread at a time; it locks the file until closed.

    Args:
        path: `events.jsonl`, made if missing.
        observers: Called with each event once it is on disk, in log order; more may be added later.
        again: The command that continues what this process does, for messages; None: a `resume`.

    Raises:
        SweepIsRunning: Another process holds the log.
    """

    def __init__(
        self, path: Path, observers: Sequence[Callable[[Event], None]], again: str | None = None
    ) -> None:
        self._file = path.open("ab", buffering=0)
        self._again = again or SweepFolder(path.parent).command("resume")
        self._failed: SweepError | None = None
        # A reader's `is_held` holds the lock for an instant.
        tries = Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            stop=stop_after_attempt(5),
            wait=wait_fixed(0.02),
            reraise=True,
        )
        try:
            tries(fcntl.flock, self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise locked(path.parent.name) from None
        whole = path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(whole)
        self._observers = observers

    def append(self, *events: Event) -> None:
        """Write the events without secrets, flush them to disk, then tell the observers.

        Raises:
            SweepError: The events cannot be written, or the file is gone. Nothing is written from
            then on, and a resume continues from what is there.
        """
        if self._failed is not None:
            raise self._failed
        events = tuple(map(without_secrets, events))
        try:
            self._write(events)
        except OSError as error:
            self._failed = SweepError(
                f"cannot write to {self._file.name} ({error.strerror or error}), so the sweep"
                " stops. Once it can be written again (is the disk full?), run:"
                f" {self._again}"
            )
            raise self._failed from error
        self.check()
        for event in events:
            for observe in self._observers:
                observe(event)

    def check(self) -> None:
        """Check that the file is where it was opened: what is written into a deleted one is lost.

        Raises:
            SweepError: The file is gone, or another one has its name.
        """
        try:
            if os.path.samestat(os.stat(self._file.name), os.fstat(self._file.fileno())):
                return
            why = (
                "was replaced by another file, so the sweep stops. To continue from what is in that"
                " file,"
            )
        except (FileNotFoundError, NotADirectoryError):
            why = (
                "is gone: the sweep's folder was moved or deleted, so the sweep stops. If you moved"
                " it, move it back, then"
            )
        self._failed = SweepError(f"{self._file.name} {why} run: {self._again}")
        raise self._failed

    def _write(self, events: Sequence[Event]) -> None:
        lines = "".join(encode(event) + "\n" for event in events).encode()
        while lines:  # a nearly full disk may accept only a part
            lines = lines[self._file.write(lines) :]
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the log, which frees its lock."""
        self._file.close()


def is_held(path: Path) -> bool:
    """Tell whether a process has locked a file, as a sweep process locks its log."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
