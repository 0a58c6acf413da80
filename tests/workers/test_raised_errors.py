"""What a worker says of the error that a job raised."""

from __future__ import annotations

import errno
import pickle
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.durable import write_whole
from sweeps.records.folder import SweepFolder
from sweeps.workers.failures.raised_errors import describe, in_one_line, storage_failed


def test_a_file_that_the_copy_of_the_code_lacks_is_said_with_what_to_write(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as raised:
        (tmp_path / "code" / "weights.bin").read_bytes()
    said = in_one_line(raised.value, tmp_path / "code", tmp_path)
    assert said.endswith(
        f"'{tmp_path}/code/weights.bin'; {tmp_path}/code is the sweep's copy of the space's folder:"
        " list this file in the `files` of the space, or use its path in a folder that all nodes"
        " share"
    )


def test_a_file_that_is_too_large_is_the_fault_of_the_trial_that_lowered_the_limit():
    """Otherwise of the storage, which ends the sweep until somebody has freed room."""
    too_large = OSError(errno.EFBIG, "File too large")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert storage_failed(too_large)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**40, before[1]))
    try:
        assert not storage_failed(too_large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_error_with_a_very_long_text_is_one_short_line(tmp_path: Path):
    """Every verb that shows the trial prints it."""
    said = in_one_line(ValueError("ü" * 5_000_000), tmp_path, tmp_path)
    assert said.startswith("ValueError: üü")
    assert "characters left out; see the traceback)" in said
    assert len(said) < 2200


def test_a_checkpoint_whose_folder_was_deleted_says_what_to_leave_alone(tmp_path: Path):
    space = pickle.dumps((None, None, str(tmp_path), None, None))
    definition: Any = SimpleNamespace(
        folder=SweepFolder(tmp_path), started_in=tmp_path, space=space
    )
    file = tmp_path / "checkpoints" / "t001" / "best-16" / "checkpoint.json"
    with pytest.raises(FileNotFoundError) as raised:
        write_whole(file, "")
    error = raised.value
    told = describe(
        error, "", rank=0, phase="training", definition=definition, code=tmp_path / "code"
    )
    assert told.message == (
        f"FileNotFoundError: [Errno 2] No such file or directory: '{file}'; this folder was"
        " deleted, perhaps by the code of the trial: in args.output_dir, delete only what that code"
        " has written itself"
    )


def test_what_torch_says_as_it_closes_a_file_on_a_full_disk_is_no_fault_of_the_trial():
    said = "[enforce fail at inline_container.cc:672] . unexpected pos 110400 vs 110292"
    assert storage_failed(RuntimeError(said))
