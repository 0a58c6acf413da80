"""Entities are scored the same on any number of workers, though each pads its own batches."""

from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.space.loading import load_space
from tests.conftest import RunSweep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_two_workers_score_a_model_as_one_process_does(run_sweep: RunSweep, tmp_path: Path):
    from transformers import TrainingArguments

    shipped = load_space("bert_conll2003").space
    tiny = shipped.builder.tiny()
    assert tiny is not None
    space = replace(
        shipped,
        build_trainer=replace(tiny.own, eval_rows=101),
        fixed={"max_steps": 40, "seed": 17},
        first_params=[{**shipped.first_params[0], "learning_rate": 2e-4}],
        evals_per_trial=1,
    )
    sweep = run_sweep(space, num_trials=1, workers_per_trial=2)
    trial = sweep.history.trials["t001"]
    [report] = trial.reports
    best = sweep.folder.path / trial.checkpoints["best"].path
    builder = replace(space.build_trainer, model=str(best))
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    alone = builder(args, data=builder.prepare()).evaluate()
    assert report.metrics["eval_f1"] > 0.3
    for name in ("eval_f1", "eval_precision", "eval_recall", "eval_loss"):
        assert report.metrics[name] == pytest.approx(alone[name], rel=1e-5)
