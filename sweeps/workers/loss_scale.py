"""Corrects a trainer whose loss HF scales wrongly, at the first step of a trial.

Runs in a worker, on every rank. It must not know about the builder beyond its trainer.

HF (transformers 5.23) passes the number of items in all batches of an optimizer step to models
whose `forward` accepts `**kwargs`. It then neither divides their loss by the accumulation steps nor
averages it over the workers. A model that ignores the number, as every model with a mean loss does,
would train with gradients that are too large by that factor.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer

from sweeps.errors import UserError
from sweeps.workers.ranks import of_all_ranks
from sweeps.workers.seeded_rows import seeded

SAME = 1e-2
"""Relative difference up to which two losses count as equal; half precision rounds to 4e-3."""

logger = logging.getLogger("sweeps")


def watch_loss(trainer: Trainer, builder: str) -> None:
    """Have the trainer's first loss checked, if workers or accumulation steps scale it.

    If the model ignores the number of items, the trainer is set up as if the model had
    `accepts_loss_kwargs = False`.

    Args:
        trainer: The trainer, before `train()`.
        builder: The builder's name, for the message.
    """
    args = trainer.args
    if args.gradient_accumulation_steps == 1 and args.world_size == 1:
        return
    compute_loss = trainer.compute_loss
    is_checked = False

    @functools.wraps(compute_loss)
    def checked(model: Any, inputs: Mapping[str, Any], *more: Any, **options: Any) -> Any:
        nonlocal is_checked
        if not is_checked:
            is_checked = True
            items = options.get("num_items_in_batch")
            factor = 1.0 if items is None else _wrong_by(trainer, model, inputs, items)
            if any(of_all_ranks(factor > 1)):  # all ranks must train in the same way
                _set_right(trainer, factor, _name(model), builder)
        return compute_loss(model, inputs, *more, **options)

    trainer.compute_loss = checked


def _set_right(trainer: Trainer, factor: float, model: str, builder: str) -> None:
    """Make a trainer treat its model's loss as a mean.

    Raises:
        UserError: The loss comes from `compute_loss_func`, which the trainer uses as it is.
    """
    args = trainer.args
    on = f"{args.world_size} worker{'s' * (args.world_size > 1)}"
    if trainer.compute_loss_func is not None:
        raise UserError(
            f"build_trainer ({builder}): compute_loss_func returns a mean, but HF expects the sum"
            " of the losses, divided by num_items_in_batch, so the loss is"
            f" {factor:g} times too large on {on} with gradient_accumulation_steps"
            f"={args.gradient_accumulation_steps}; return loss.sum() / num_items_in_batch if"
            " num_items_in_batch is not None"
        )
    trainer.model_accepts_loss_kwargs = trainer.loss_is_scaled_for_ga = False
    logger.warning(
        "the loss of %s ignores num_items_in_batch, so HF now averages it over workers and"
        " accumulation steps",
        model,
    )


def _wrong_by(trainer: Trainer, model: Any, inputs: Mapping[str, Any], items: Any) -> float:
    """Return the factor by which the gradients are too large; 1 if they are right."""

    def loss(count: Any) -> float:
        with seeded(0):  # a loss may draw random numbers
            torch.manual_seed(0)  # also on a GPU
            value = trainer.compute_loss(model, dict(inputs), num_items_in_batch=count)
        return float(value.detach().float().mean())

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices), torch.no_grad():
        given, doubled, none = loss(items), loss(2 * items), loss(None)
        for name, buffer in model.named_buffers():  # such as the means of a batch norm
            if (before := kept.get(name)) is not None and before.shape == buffer.shape:
                buffer.copy_(before)  # otherwise it was made by the first pass, such as a cache
    if not math.isclose(given, doubled, rel_tol=SAME) or given == 0:
        return 1.0  # the loss uses the number of items, or is 0
    over_workers = given / none if none else 1.0
    return round(over_workers, 2) * _not_divided(trainer)


def _not_divided(trainer: Trainer) -> int:
    """Return the accumulation steps by which HF fails to divide the loss."""
    scaled = getattr(trainer, "loss_is_scaled_for_ga", None)
    return trainer.args.gradient_accumulation_steps if scaled is None or scaled else 1


def _name(model: Any) -> str:
    return type(getattr(model, "module", model)).__name__
