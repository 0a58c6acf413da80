"""Rows that Ray Data streams train as the same rows that are mapped into memory."""

from pathlib import Path
from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.report import Report
from tests.conftest import SPACES, RunSweep
from tests.spaces.recorded import batches
from tests.workers.test_training import run_job

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
RECORDED = str(SPACES / "recorded.py")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_gives_the_losses_of_its_rows_in_trial_after_trial_of_a_warm_group(
    run_sweep: RunSweep, tiny_model_without_dropout: Path, tmp_path: Path, workers: int
):
    """57 rows, 4 a batch: on one worker the last batch of an epoch has one row; on two workers one
    row is left out, and the last optimizer step of an epoch accumulates one batch instead of two.
    """

    def given(name: str, *more: str) -> list[str]:
        (tmp_path / name).mkdir()
        return [f"model={tiny_model_without_dropout}", f"record={tmp_path / name}", *more]

    def run(assignments: list[str], trials: int) -> list[list[dict[str, Any]]]:
        results = run_sweep(
            RECORDED, assignments, num_trials=trials, workers_per_trial=workers, scheduler="fifo"
        )
        found = results.history.trials.values()
        assert [trial.status for trial in found] == ["finished"] * trials
        assert {trial.job.group for trial in found if trial.job} == {1}
        return [numbers(trial.reports) for trial in found]

    first, second, third = run(given("streamed", "stream=True"), trials=3)
    assert len(second) == 2
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

    replay = f"replay={tmp_path / 'streamed'}"
    mapped = given("mapped", replay, "train_sampling_strategy=sequential")
    if workers == 1:  # in this process
        space = make_request(RECORDED, SweepConfig(), assignments=mapped).space
        reports, _ = run_job(space, space.first_params[0], tmp_path / "alone" / "sweep")
        alone = numbers(reports)
    else:
        [alone] = run(mapped, trials=1)
    assert [batches(tmp_path / "mapped", "t001", rank) for rank in range(workers)] == seen
    assert alone == first


def numbers(reports: list[Report]) -> list[dict[str, Any]]:
    """All that a trial reported but clocks: 8 training losses, and what it was judged by."""
    return [
        {
            "step": report.step,
            "epoch": report.epoch,
            "log_entries": report.log_entries,
            **{k: v for k, v in report.metrics.items() if "runtime" not in k and "per_s" not in k},
        }
        for report in reports
    ]
