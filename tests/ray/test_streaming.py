"""Rows that Ray Data streams train as the same rows that are mapped into memory."""

from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.results import Results
from tests.conftest import SPACES, RunSweep
from tests.spaces.recorded import batches

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_gives_the_losses_of_its_rows_in_trial_after_trial_of_a_warm_group(
    run_sweep: RunSweep, tiny_model_without_dropout: Path, tmp_path: Path, workers: int
):
    """57 rows, 4 a batch: on one worker the last batch of an epoch has one row; on two workers one
    row is left out, and the last optimizer step of an epoch accumulates one batch instead of two.
    """

    def run(name: str, *more: str, trials: int) -> Results:
        (tmp_path / name).mkdir()
        given = [f"model={tiny_model_without_dropout}", f"record={tmp_path / name}", *more]
        results = run_sweep(
            str(SPACES / "recorded.py"),
            given,
            num_trials=trials,
            workers_per_trial=workers,
            scheduler="fifo",
        )
        found = results.history.trials.values()
        assert [trial.status for trial in found] == ["finished"] * trials
        assert {trial.job.group for trial in found if trial.job} == {1}
        return results

    streamed = run("streamed", "stream=True", trials=3)
    first, third = numbers(streamed, "t001"), numbers(streamed, "t003")
    assert len(numbers(streamed, "t002")) == 2
    assert first == third
    assert [(report["step"], report["epoch"]) for report in first] == [(4, 1.0), (8, 2.0)]
    seen = [batches(tmp_path / "streamed", "t001", rank) for rank in range(workers)]
    assert seen == [batches(tmp_path / "streamed", "t003", rank) for rank in range(workers)]
    for rank in seen:
        once, again = ([row for batch in rank[epoch] for row in batch] for epoch in (0, 1))
        assert len(once) == 57 // workers
        assert sorted(once) == sorted(again)
        assert once != again
    assert len({row for rank in seen for batch in rank[0] for row in batch}) == 57 - 57 % workers

    mapped = run(
        "mapped",
        f"replay={tmp_path / 'streamed'}",
        "train_sampling_strategy=sequential",
        trials=1,
    )
    assert [batches(tmp_path / "mapped", "t001", rank) for rank in range(workers)] == seen
    assert numbers(mapped, "t001") == first


def numbers(results: Results, trial: str) -> list[dict[str, Any]]:
    """All that a trial reported but clocks: 8 training losses, and what it was judged by."""
    return [
        {
            "step": report.step,
            "epoch": report.epoch,
            "log_entries": report.log_entries,
            **{k: v for k, v in report.metrics.items() if "runtime" not in k and "per_s" not in k},
        }
        for report in results.history.trials[trial].reports
    ]
