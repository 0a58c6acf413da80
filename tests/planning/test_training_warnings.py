"""Warnings about training arguments: without effect, compiled anew, not resumed exactly."""

from __future__ import annotations

from typing import Any

import pytest
from ray import tune

from tests.planning.asked import doubtful


@pytest.mark.parametrize("key", ["bf16", "tf32"])
def test_a_tuned_precision_is_doubtful_on_a_cpu(key: str):
    tuned = {key: tune.choice([True, False])}
    said = f"tuned[{key!r}] has no effect: trials run on CPUs"
    assert said in "\n".join(doubtful(tuned=tuned))
    assert said not in "\n".join(doubtful(tuned=tuned, gpu=True))
    assert doubtful(fixed={key: True}) == [], "it is not what tells trials apart"


@pytest.mark.parametrize(
    ("tuned", "fixed", "keys"),
    [
        ("total_train_batch_size", {"torch_compile": True}, "total_train_batch_size"),
        ("total_train_batch_size", {"torch_compile_mode": "default"}, "total_train_batch_size"),
        ("total_train_batch_size", {"torch_compile": True, "max_rows_per_device": 8}, None),
        ("total_train_batch_size", {"torch_compile": False}, None),
        ("per_device_eval_batch_size", {"torch_compile": True}, "per_device_eval_batch_size"),
        ("gradient_accumulation_steps", {"torch_compile": True}, None),
    ],
)
def test_shapes_that_are_compiled_anew_are_doubtful(tuned: str, fixed: Any, keys: str | None):
    found = doubtful(tuned={tuned: tune.choice([8, 16])}, fixed=fixed)
    said = [line.partition(":")[0] for line in found if line.startswith("torch_compile with")]
    assert said == ([] if keys is None else [f"torch_compile with {keys} tuned"])


def test_batches_in_any_order_are_doubtful():
    (line,) = doubtful(fixed={"dataloader_in_order": False, "dataloader_num_workers": 2})
    assert line.startswith(
        "dataloader_in_order=False with data-loader processes: batches arrive in"
    )
    assert doubtful(fixed={"dataloader_in_order": True}) == []


def test_a_mode_of_compiling_that_does_not_resume_exactly_is_doubtful():
    assert doubtful(fixed={"torch_compile_mode": "reduce-overhead"}) == [
        "torch_compile_mode=reduce-overhead: a resumed trial may not reproduce its numbers to the"
        " last bit"
    ]
