"""Describes the error that a rank has raised: its text in one line, and what kind of error it is.

Runs in a worker. It must not know what follows from an error.
"""

from __future__ import annotations

import errno
import resource
import socket
from pathlib import Path

from sweeps.durable import NOT_WRITABLE
from sweeps.errors import UserError
from sweeps.records.events import Phase
from sweeps.records.remote import StorageFailed
from sweeps.secrets import redact
from sweeps.space.user_code import ended_process
from sweeps.texts import encodable, shortened
from sweeps.workers.failures.left_behind import left_behind
from sweeps.workers.failures.lost_peers import lost_peer
from sweeps.workers.failures.out_of_memory import exhausted_memory
from sweeps.workers.job import Definition
from sweeps.workers.messages import JobError

LONGEST = 2000
"""How many characters of an error's text stay in its line; its traceback has all of them."""
_NO_STORAGE = (*NOT_WRITABLE, errno.EIO, errno.ESTALE)
_CANNOT_WRITE = (
    *("(os error 28)", "(os error 27)", "(os error 122)"),
    *("PytorchStreamWriter failed", "unexpected pos ", "iostream error"),
)
"""Messages of safetensors and torch.save when a write fails (0.7, 2.13)."""
_FILE_SIZE = resource.getrlimit(resource.RLIMIT_FSIZE)
"""The limit on the size of a file in bytes, before any job."""


def describe(
    error: BaseException,
    traceback: str,
    *,
    rank: int,
    phase: Phase,
    definition: Definition,
    code: Path,
) -> JobError:
    """Return what the exchange is told about an error.

    Args:
        error: The error.
        traceback: Its traceback, as `readable`.
        rank: The rank that raised it.
        phase: What the trial was doing.
        definition: The sweep's definition.
        code: The sweep's copy of the space's folder.
    """
    where = left_behind(error, code, definition.space) or _deleted(error, definition)
    return JobError(
        rank=rank,
        message=readable(in_one_line(error, code, definition.started_in) + where),
        traceback=traceback,
        out_of_memory=exhausted_memory(error),
        storage=storage_failed(error),
        phase=phase,
        fixable=isinstance(error, UserError),
        connection=lost_peer(error),
    )


def readable(text: str) -> str:
    """Return what an error says without secrets, and so that every file and process can take it."""
    return encodable(redact(text))


def _deleted(error: BaseException, definition: Definition) -> str:
    """Return what to do if a checkpoint could not be written, because its folder is gone."""
    if not (isinstance(error, FileNotFoundError) and isinstance(error.filename, str)):
        return ""
    folder = definition.folder
    places = (folder.checkpoints, folder.smoke.checkpoints)
    if not any(Path(error.filename).is_relative_to(place) for place in places):
        return ""
    return (
        "; this folder was deleted, perhaps by the code of the trial: in args.output_dir, delete"
        " only what that code has written itself"
    )


def _missing(name: str, code: Path, started_in: Path) -> str:
    """Return where a missing file was looked up, and what to do."""
    if Path(name).is_relative_to(code):
        return (
            f"; {code} is the sweep's copy of the space's folder: list this file in the `files` of"
            " the space, or use its path in a folder that all nodes share"
        )
    if Path(name).is_absolute():
        return ""
    where = f"; looked in {Path.cwd()} on {socket.gethostname()}"
    if Path.cwd() != started_in:
        where += f", because this node cannot see {started_in}, where the sweep was started"
    return f"{where}; use its path in a folder that all nodes share"


def in_one_line(error: BaseException, code: Path, started_in: Path) -> str:
    """Return the type and text of an error, or only the text if it says what to do."""
    if isinstance(error, SystemExit):  # lacks the line of the user's code
        error = ended_process(error)
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    text = shortened(text.strip().split("\n")[0], LONGEST, "the traceback")
    if exhausted_memory(error):
        text = "; ".join([text.rstrip("."), *getattr(error, "__notes__", ())])
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        text += _missing(error.filename, code, started_in)
    return text


def storage_failed(error: BaseException) -> bool:
    """Tell whether a disk or quota was full, or the storage was unavailable."""
    if resource.getrlimit(resource.RLIMIT_FSIZE) != _FILE_SIZE:
        return False  # the job itself has set a limit
    return (
        isinstance(error, StorageFailed)
        or (isinstance(error, OSError) and error.errno in _NO_STORAGE)
        or any(words in str(error) for words in _CANNOT_WRITE)
    )
