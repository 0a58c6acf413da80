"""The same space is the same optimisation on 1, 2 and 4 workers, whatever fits on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from sweeps import SearchSpace
from sweeps.space.arguments import Devices, split_batch, training_arguments

ROWS, TOKENS, TOTAL = 48, 6, 8
TOLERANCE = 1e-5
"""Of a loss of about 0.7: 32-bit sums in another order."""


def rows() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 20, (ROWS, TOKENS), generator=generator)
    return [{"input_ids": row, "labels": (row[0] % 2)} for row in ids]


def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    made = BertForSequenceClassification(
        BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
    made.accepts_loss_kwargs = False  # as TextClassification does
    return made


def build(args: TrainingArguments) -> Trainer:
    return Trainer(model=model(), args=args, train_dataset=rows(), eval_dataset=rows())


def arguments(workers: int, max_rows: int | None, folder: Path) -> TrainingArguments:
    fixed: dict[str, Any] = {
        "total_train_batch_size": TOTAL,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
    }
    if max_rows is not None:
        fixed["max_rows_per_device"] = max_rows
    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-1)},
        fixed=fixed,
    )
    devices = Devices(workers=workers, gpu=False, bf16=False)
    return training_arguments(
        space, {"learning_rate": 2e-2}, devices=devices, output_dir=folder, seed=7
    )


def trained(args: TrainingArguments) -> list[float]:
    """The training loss of every step, as HF logs it."""
    trainer = build(args)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def shared(workers: int, args: TrainingArguments) -> list[float]:
    """The mean loss of every step of `workers` models whose gradients are averaged, as DDP does.

    Each worker takes every `workers`-th micro-batch, as accelerate's sampler hands them out.
    """
    micro, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
    replicas = [model() for _ in range(workers)]
    optimizers = [
        torch.optim.AdamW(replica.parameters(), lr=args.learning_rate, weight_decay=0.0)
        for replica in replicas
    ]
    data, losses = rows(), []
    total_steps = ROWS // TOTAL
    for step in range(total_steps):
        at = step * TOTAL
        batches = [data[at + i * micro : at + (i + 1) * micro] for i in range(workers * steps)]
        step_loss = 0.0
        for rank, replica in enumerate(replicas):
            for batch in batches[rank::workers]:
                inputs = {key: torch.stack([row[key] for row in batch]) for key in batch[0]}
                loss = replica(**inputs).loss / steps
                loss.backward()
                step_loss += loss.item() / workers
        for of_all in zip(*(replica.parameters() for replica in replicas), strict=True):
            mean = torch.stack([p.grad for p in of_all]).mean(0)
            for parameter in of_all:
                parameter.grad = mean.clone()
        for replica, optimizer in zip(replicas, optimizers, strict=True):
            torch.nn.utils.clip_grad_norm_(replica.parameters(), args.max_grad_norm)
            for group in optimizer.param_groups:  # HF's linear schedule
                group["lr"] = args.learning_rate * (1 - step / total_steps)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(step_loss)
    return losses


@pytest.mark.parametrize("max_rows", [None, 4, 2])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_same_total_batch_gives_the_same_losses_step_by_step_on_any_number_of_workers(
    workers: int, max_rows: int | None, tmp_path: Path
):
    alone = trained(arguments(1, None, tmp_path))
    assert len(alone) == ROWS // TOTAL
    assert max(alone) - min(alone) > 0.01, "every step changes the model"
    args = arguments(workers, max_rows, tmp_path)
    split = args.per_device_train_batch_size * args.gradient_accumulation_steps * workers
    assert split == TOTAL
    found = trained(args) if workers == 1 else shared(workers, args)
    assert found == pytest.approx(alone, abs=TOLERANCE)


def test_what_a_device_takes_at_most_is_kept_and_the_steps_make_up_for_it():
    found = {n: split_batch(TOTAL, n, 2) for n in (1, 2, 4)}
    assert found == {1: (2, 4), 2: (2, 2), 4: (2, 1)}
