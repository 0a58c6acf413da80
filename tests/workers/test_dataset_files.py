"""Temporary tables of `datasets` go with their job."""

from __future__ import annotations

from pathlib import Path

import datasets
from datasets import Dataset

from sweeps.workers.isolation.isolated import restore, take_baseline


def mapped(folder: Path) -> Dataset:
    """What a builder may do; the table is written to the temporary folder of `datasets`."""
    if not folder.exists():
        Dataset.from_dict({"x": [1, 2, 3]}).save_to_disk(folder)
    datasets.disable_caching()
    rows = Dataset.load_from_disk(folder).map(lambda row: {"x": 2 * row["x"]})
    assert rows.select([2, 0])["x"][:] == [6, 2]
    return rows


def files(rows: Dataset) -> set[Path]:
    return {Path(each["filename"]) for each in rows.cache_files}


def test_tables_of_a_job_are_deleted_unless_something_still_uses_them(tmp_path: Path) -> None:
    baseline = take_baseline()
    held = mapped(tmp_path / "rows")
    (folder,) = {file.parent for file in files(held)}
    assert folder.name.startswith("hf_datasets-")
    for _ in range(2):
        mapped(tmp_path / "rows")
        assert set(folder.iterdir()) > files(held)
        assert restore(baseline) == []
        assert set(folder.iterdir()) == files(held)
        assert datasets.is_caching_enabled()
    assert held["x"][:] == [2, 4, 6]
    del held
    restore(baseline)
    assert set(folder.iterdir()) == set()
    assert mapped(tmp_path / "rows")["x"][:] == [2, 4, 6]
    restore(baseline)
