"""The request of a sweep that is resumed, rebuilt from its folder.

Runs in the sweep process before Ray starts. It must not change the results, which belong to the
event log.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

from sweeps.driver.requests.finished import Changes
from sweeps.driver.requests.recorded_request import (
    ask_again,
    check_storage,
    differences,
    given_space,
    recorded_space,
)
from sweeps.planning.request import Request
from sweeps.records.event_log import is_held, locked
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import fetch_code
from sweeps.records.provenance import git_state
from sweeps.records.sweep_record import (
    NewCode,
    Source,
    SweepRecord,
    read_record,
    write_record,
)
from sweeps.space.code_copy import copy_code, is_asked, is_copy
from sweeps.space.loading import LoadedSpace, load_copy
from sweeps.space.search_space import SearchSpace

OLD_CODE = "code.old"
"""The sweep's old copy of the code while a new one replaces it."""


def make_resumption(
    folder: SweepFolder,
    changes: Changes,
    *,
    storage: str,
    take_new_code: bool = False,
    space: SearchSpace | None = None,
    command: str = "",
) -> Request:
    """Return the recorded request with the changes, checked again.

    Args:
        folder: The sweep's folder.
        changes: What changes from now on.
        storage: Where the sweep was found.
        take_new_code: Whether to use the space's current files.
        space: The space of a sweep that was started from Python without a file.
        command: The user's command or call, for the record.

    Raises:
        SweepIsRunning: Another process is running the sweep.
        UserError: The definition cannot be read back, or differs where it must not.
    """
    if folder.events_file.exists() and is_held(folder.events_file):
        raise locked(folder.id)
    fetch_code(folder)
    if not folder.code.exists() and (folder.path / OLD_CODE).exists():
        (folder.path / OLD_CODE).rename(folder.code)  # killed while replacing the code
    record = read_record(folder)
    check_storage(folder, record, storage)
    config = dataclasses.replace(changes.over(record.config), storage=storage)
    source = record.source
    lines: list[str] = []
    if source.file is None:
        loaded = given_space(folder, record, space, "resume")
    else:
        changed = _changed_files(folder.code, Path(source.root))
        if changed and take_new_code:
            fresh = _from_root(folder, source)
            named = dataclasses.replace(fresh, name=record.space.name)
            # Rejected while the old copy is still there.
            differences(record, ask_again(record, named, config), new_code=True)
            _take(fresh, folder)
            record = _note_new_code(folder, record, changed)
            lines.append(f"using the changed files: {', '.join(changed)}")
            changed = []
        loaded = recorded_space(folder, record)
        # For other text files, it is not known whether the code reads them or a trial writes them.
        assert loaded.folder is not None, "it has a file"
        below = loaded.folder.relative_to(folder.code)
        if code := [n for n in changed if is_asked(Path(n).relative_to(below), loaded.space.files)]:
            lines.append(
                f"changed since the sweep began: {', '.join(code)}; the sweep continues with its"
                " own copy (to use the changed files, pass --take-new-code)"
            )
    request = ask_again(record, loaded, config, command)
    return dataclasses.replace(
        request,
        rerun=record.rerun_of,
        lines=[*lines, *differences(record, request)],
    )


def _from_root(folder: SweepFolder, source: Source) -> LoadedSpace:
    """Return the space from its original files, or from the copy if only that has it."""
    assert source.file is not None
    root = Path(source.root)
    if (root / source.file).is_file():
        return load_copy(root, source.file, source.dotted)
    copied = load_copy(folder.code, source.file, source.dotted)
    text = (folder.code / source.file).read_text()
    return dataclasses.replace(
        copied,
        file=root / source.file,
        root=root,
        folder=None if source.dotted else root,
        text=text,
    )


def _note_new_code(folder: SweepFolder, record: SweepRecord, changed: list[str]) -> SweepRecord:
    """Record in `sweep.json` that later trials use new code; return the new record."""
    source = record.source
    assert source.file is not None
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    taken = NewCode(time=now, files=changed, git=git_state(Path(source.root) / source.file))
    record = dataclasses.replace(record, new_code=[*record.new_code, taken])
    write_record(folder, record)
    return record


def _changed_files(code: Path, root: Path) -> list[str]:
    """Return the copied files whose originals exist and differ."""
    copies = sorted(file for file in code.rglob("*") if is_copy(file))
    pairs = [(copy.relative_to(code), copy) for copy in copies]
    return [
        str(name)
        for name, copy in pairs
        if (root / name).is_file() and (root / name).read_bytes() != copy.read_bytes()
    ]


def _take(loaded: LoadedSpace, folder: SweepFolder) -> None:
    """Replace the sweep's copy of the code."""
    aside, old = folder.path / "code.new", folder.path / OLD_CODE
    for remains in (aside, old):
        shutil.rmtree(remains, ignore_errors=True)
    copy_code(loaded, aside)
    folder.code.rename(old)
    aside.rename(folder.code)
    shutil.rmtree(old)
