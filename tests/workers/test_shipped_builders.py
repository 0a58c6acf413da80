"""One job in this process with a shipped space: it resumes exactly, and what it saves loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.loading_back import from_pretrained
from sweeps.space.checks import HF_ADDS
from sweeps.space.loading import load_space
from sweeps.workers.job import Reply
from tests.workers.test_training import GO, numbers, process, run_job, save_last

__all__ = ["process"]

AT = {
    3: Reply("continue", save_best=False, save_state=True),
    4: Reply("stop", save_best=False, save_state=False),
}


def tiny(name: str) -> Any:
    shipped = load_space(name).space
    builder = shipped.build_trainer.tiny()  # type: ignore[attr-defined]
    fixed = {**shipped.fixed, "num_train_epochs": 1, "max_rows_per_device": 8}
    return replace(shipped, build_trainer=builder, fixed=fixed)


@pytest.mark.parametrize(
    ("name", "params", "weights"),
    [
        (
            "gpt2_wikitext2",
            {"learning_rate": 5e-4, "total_train_batch_size": 16, "weight_decay": 0.1},
            "model.safetensors",
        ),
        ("smollm2_lora", {"learning_rate": 2e-3, "lora_rank": 4}, "adapter_model.safetensors"),
        (
            "bert_conll2003",
            {"learning_rate": 1e-4, "total_train_batch_size": 16, "weight_decay": 0.1},
            "model.safetensors",
        ),
    ],
)
def test_a_resumed_job_goes_on_bit_for_bit_and_its_best_loads(
    name: str, params: dict[str, Any], weights: str, tmp_path: Path
):
    space = tiny(name)
    unbroken, whole = run_job(space, params, tmp_path / "unbroken", save_last)
    _, saved = run_job(space, params, tmp_path / "broken", lambda n: AT.get(n, GO))
    checkpoint = tmp_path / "broken" / saved[0].path
    resumed, rest = run_job(space, params, tmp_path / "broken", save_last, checkpoint=checkpoint)
    given = {metric for metric in unbroken[0].metrics if not metric.endswith(HF_ADDS)}
    assert sorted(given) == space.builder.metric_names
    assert numbers(resumed) == numbers(unbroken[3:])
    assert rest[0].sha256 == whole[0].sha256
    best = tmp_path / "broken" / rest[0].path
    assert (best / weights).is_file()
    assert from_pretrained(best)
