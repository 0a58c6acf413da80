"""Rows are tokenised once, whatever the number of trials, workers and sweeps."""

from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import SPACES, RunSweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def rows_by_process(file: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        process, rows = line.split()
        found[process] += int(rows)
    return found


def test_each_row_is_tokenised_once_for_all_trials_workers_and_sweeps(
    run_sweep: RunSweep, tmp_path: Path
):
    counts = tmp_path / "counts"
    for workers in (2, 1):
        results = run_sweep(
            str(SPACES / "counted.py"),
            [f"counts={counts}"],
            num_trials=3,
            workers_per_trial=workers,
            scheduler="fifo",
        )
        trials = results.history.trials.values()
        assert [trial.status for trial in trials] == ["finished"] * 3
        assert {trial.params["block_tokens"] for trial in trials} == {16, 32}
    rows = rows_by_process(counts)
    assert len(rows) == 1 + 2 + 1  # this process, and the workers of two sweeps
    assert sum(rows.values()) == 2 * (512 + 256)  # two lengths of a block
