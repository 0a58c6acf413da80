"""A trial that runs out of memory says what would take less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer

from sweeps.records.folder import SweepFolder
from sweeps.space.arguments import Devices
from sweeps.workers.failures.out_of_memory import advice, exhausted_memory
from sweeps.workers.failures.raised_errors import in_one_line
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.signals import Signals
from sweeps.workers.training import train
from tests.workers.own_trainers import PARAMS, builder, space_of

WHAT = "weights, gradients and Adam's moments"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {},
            f"{WHAT} take 16.0 GB on each worker, and 8.0 GB with fsdp=True in fixed; activations"
            " use less memory with gradient_checkpointing=True or max_rows_per_device=4, with the"
            " same total_train_batch_size",
        ),
        (
            {"workers": 1, "rows": 1},
            f"{WHAT} take 16.0 GB on each worker, and 8.0 GB with fsdp=True in fixed and"
            " --workers-per-trial 2; activations use less memory with gradient_checkpointing=True",
        ),
        (
            {"sharded": True, "rows": 1},
            f"{WHAT} take 8.0 GB on each worker, and 4.0 GB with --workers-per-trial 4; activations"
            " use less memory with fsdp_config.activation_checkpointing=True",
        ),
        ({"gpu": False, "recomputes": True, "rows": 1}, f"{WHAT} take 16.0 GB on each worker"),
    ],
)
def test_the_advice_is_what_the_trial_does_not_do_yet(given: dict[str, Any], expected: str) -> None:
    usual = {"workers": 2, "gpu": True, "sharded": False, "recomputes": False, "rows": 8}
    assert advice(taken=16 * 10**9, what=WHAT, **{**usual, **given}) == expected


NO_ROOM = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "device"),
        (RuntimeError("CUDA error: out of memory"), "device"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "device"),
        (RuntimeError(NO_ROOM), "host"),
        (MemoryError(), "host"),
        (RuntimeError("the loss is not finite"), None),
        (ValueError("CUDA error: out of memory"), None),
    ],
)
def test_it_is_known_whose_memory_ran_out(error: Exception, expected: str | None) -> None:
    assert exhausted_memory(error) == expected


def test_the_host_says_what_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert exhausted_memory(raised.value) == "host"


class Full(Trainer):
    def training_step(self, *_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_the_message_of_the_attempt_ends_with_the_advice(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError) as raised:
        train(
            space_of(builder(Full)),
            Job(trial="t001", attempt=1, params=PARAMS, seed=0, checkpoint=None),
            devices=Devices(workers=1, gpu=False, bf16=False),
            folder=SweepFolder(tmp_path),
            link=Link(
                report=lambda _: None,
                answer=lambda _: Reply("continue", save_best=False, save_state=False),
                announce=lambda _: None,
                name_step=lambda _: None,
            ),
            signals=Signals(),
            fits=lambda: True,
        )
    assert in_one_line(raised.value, tmp_path, tmp_path) == (
        f"OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB; {WHAT} take 0 kB on"
        " each worker; activations use less memory with gradient_checkpointing=True or"
        " max_rows_per_device=4, with the same total_train_batch_size"
    )
