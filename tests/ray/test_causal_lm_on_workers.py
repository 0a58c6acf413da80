"""A language model gives the same losses on any number of workers and accumulation steps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ray import tune

from sweeps import CausalLM, SearchSpace
from tests.conftest import TINY, RunSweep
from tests.workers.test_training import run_job

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_two_workers_that_accumulate_give_the_losses_of_one_that_does_not(
    run_sweep: RunSweep, tmp_path: Path
):
    """Tolerance 1e-5, relative: the same sums, in another order of 32-bit additions."""
    shutil.copytree(TINY / "causal_model", tmp_path / "still")
    config = tmp_path / "still" / "config.json"
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | no_dropout))
    tiny = CausalLM(model="-/-", dataset="-/-").tiny()
    space = SearchSpace(
        build_trainer=replace(tiny, model=str(tmp_path / "still")),
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-2)},
        fixed={"max_steps": 8, "total_train_batch_size": 16, "max_rows_per_device": 16},
        first_params=[{"learning_rate": 5e-3}],
        evals_per_trial=4,
    )
    seen = []
    few_rows = replace(space, fixed={**space.fixed, "max_rows_per_device": 4})
    on_two = run_sweep(few_rows, num_trials=1, workers_per_trial=2).history.trials["t001"]
    alone, _ = run_job(space, space.first_params[0], tmp_path / "alone" / "sweep")
    for reports in (alone, on_two.reports):
        assert reports[0].eval_rows % 16  # the last batch is not full
        train = [sample.loss for report in reports for sample in report.log_entries]
        seen.append([[report.metrics["eval_loss"] for report in reports], train])
    assert len(seen[0][0]) == 4
    assert seen[0][0][3] < seen[0][0][0] - 0.01
    for of_one, of_two in zip(*seen, strict=True):
        assert of_two == pytest.approx(of_one, rel=1e-5)
