"""Prepared files: made once, whole or not at all, found again under what they are made of."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sweeps.builders.data import prepared_data
from sweeps.builders.data.prepared_data import map_rows, prepared_folder, prepared_in, write_rows
from sweeps.errors import UserError

KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from sweeps.builders.data.prepared_data import prepared_folder, prepared_in

def make(folder):
    (folder / "train.arrow").write_bytes(b"the beginning")
    os.kill(os.getpid(), signal.SIGKILL)

with prepared_in(Path(sys.argv[1])):
    prepared_folder({"task": "any"}, make)
"""


def make_file(folder: Path) -> Mapping[str, Any]:
    (folder / "train.arrow").write_text("whole")
    return {"rows": 3}


def test_equal_settings_are_made_once_and_keep_their_facts(tmp_path: Path) -> None:
    lines: list[str] = []
    with prepared_in(tmp_path, lines.append):
        folder, facts = prepared_folder({"task": "any", "rows": None}, make_file)
        assert facts == {"rows": 3}
        assert (folder / "train.arrow").read_text() == "whole"
        assert lines[0] == "preparing the data"
        assert lines[1].startswith("prepared the data in ")
        again = prepared_folder({"rows": None, "task": "any"}, lambda _: pytest.fail("made again"))
        assert again == (folder, facts)
        assert len(lines) == 2
        other, _ = prepared_folder({"task": "any", "rows": 5}, make_file)
    assert folder.parent == other.parent == tmp_path
    assert folder != other


@pytest.mark.parametrize("library", ["datasets", "tokenizers", "transformers"])
def test_another_version_of_a_library_that_prepares_rows_prepares_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """transformers' code is the slow tokenizer, and it builds a fast one from its files."""
    version = importlib.metadata.version
    with prepared_in(tmp_path):
        before, _ = prepared_folder({"task": "any"}, make_file)
        other = {library: "0"}
        monkeypatch.setattr(importlib.metadata, "version", lambda n: other.get(n) or version(n))
        assert prepared_folder({"task": "any"}, make_file)[0] != before


def test_what_a_killed_process_left_is_not_taken_for_whole(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir() if path.is_dir()] == [".partial"]
    with prepared_in(tmp_path):
        folder, _ = prepared_folder({"task": "any"}, make_file)
    assert (folder / "train.arrow").read_text() == "whole"
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


def test_who_waits_for_another_process_that_prepares_the_same_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That process may hang."""
    monkeypatch.setattr(prepared_data, "PATIENCE_S", 0.0)
    with prepared_in(tmp_path):
        folder, _ = prepared_folder({"task": "any"}, make_file)
    (folder / "prepared.json").unlink()
    other, lines = FileLock(folder.with_suffix(".lock")), list[str]()

    def told(line: str) -> None:
        lines.append(line)
        other.release()

    other.acquire()
    with prepared_in(tmp_path, told):
        assert prepared_folder({"task": "any"}, make_file)[0] == folder
    assert lines[0] == (
        "waiting for another process that is preparing the same data and has locked"
        f" {folder.with_suffix('.lock')}"
    )


def test_a_folder_without_its_marker_is_made_anew(tmp_path: Path) -> None:
    with prepared_in(tmp_path):
        folder, _ = prepared_folder({"task": "any"}, make_file)
        (folder / "prepared.json").unlink()
        (folder / "train.arrow").write_text("half")
        assert prepared_folder({"task": "any"}, make_file)[0] == folder
    assert (folder / "train.arrow").read_text() == "whole"


def test_data_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    def refuse(folder: Path) -> Mapping[str, Any]:
        (folder / "train.arrow").write_text("half")
        raise UserError("does not fit")

    with prepared_in(tmp_path), pytest.raises(UserError):
        prepared_folder({"task": "any"}, refuse)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_files_go_to_the_cache_of_datasets_where_no_sweep_says_otherwise() -> None:
    import datasets

    folder, _ = prepared_folder({"task": "test of the place", "process": os.getpid()}, make_file)
    assert folder.parent == Path(datasets.config.HF_DATASETS_CACHE, "sweeps")


def test_rows_are_written_batch_by_batch_and_mapped(tmp_path: Path) -> None:
    from datasets import Dataset

    table = Dataset.from_dict({"n": list(range(2500))})
    batches: list[int] = []

    def odd(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]] | None:
        batches.append(len(batch["n"]))
        rows = [n for n in batch["n"] if n % 2 and n >= 1000]
        return {"odd": rows} if rows else None

    assert write_rows(tmp_path / "rows.arrow", table, odd) == 750
    assert batches == [1000, 1000, 500]
    mapped = map_rows(tmp_path / "rows.arrow")
    assert mapped["odd"][:3] == [1001, 1003, 1005]
    assert len(mapped) == 750
    assert mapped.cache_files
