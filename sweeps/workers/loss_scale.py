"""Corrects a trainer whose loss HF scales wrongly, at the first step of a trial.

Runs in a worker, on every rank. It must not know about the builder beyond its trainer.

The check runs the model three times. That may change what a model or trainer keeps, such as a mean
of earlier weights, so a trial that resumes is not checked again: its state has the result.

HF (transformers 5.23) passes the number of items in all batches of an optimizer step to models
whose `forward` accepts `**kwargs`. It then neither divides their loss by the accumulation steps nor
averages it over the workers. A model that ignores the number, as every model with a mean loss does,
would train with gradients that are too large by that factor.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import Trainer

from sweeps.amounts import counted
from sweeps.errors import UserError
from sweeps.workers.ranks import of_all_ranks
from sweeps.workers.rows.seeded_rows import seeded

SAME = 1e-2
"""Relative difference up to which two losses count as equal; half precision rounds to 4e-3."""

logger = logging.getLogger("sweeps")

_wrong = WeakKeyDictionary[Trainer, bool]()
"""Whether HF scales the loss of each trainer wrongly that has been checked."""


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

    @functools.wraps(compute_loss)
    def checked(model: Any, inputs: Mapping[str, Any], *more: Any, **options: Any) -> Any:
        if trainer not in _wrong:
            _wrong[trainer] = False  # the check calls this function
            items = options.get("num_items_in_batch")
            factor = 1.0 if items is None else _wrong_by(trainer, model, inputs, items)
            _wrong[trainer] = any(of_all_ranks(factor > 1))  # all ranks must train in the same way
            if _wrong[trainer]:
                _set_right(trainer, factor, _name(model), builder)
        return compute_loss(model, inputs, *more, **options)

    trainer.compute_loss = checked


def save(trainer: Trainer, state: Path) -> None:
    """Write the result of the check, if there was one, to the folder of a state."""
    if trainer in _wrong and trainer.args.process_index == 0:
        _file(state).write_text(json.dumps({**_setting(trainer), "wrong": _wrong[trainer]}))


def restore(trainer: Trainer, state: Path) -> None:
    """Use the result in a state that is resumed; another number of workers or steps has its own."""
    file = _file(state)
    if not file.is_file():
        return
    saved = json.loads(file.read_text())
    wrong = saved.pop("wrong")
    if saved == _setting(trainer):
        _wrong[trainer] = wrong
        if wrong:
            _take_as_mean(trainer)


def _setting(trainer: Trainer) -> dict[str, int]:
    """Return what the result depends on."""
    args = trainer.args
    return {"workers": args.world_size, "accumulation": args.gradient_accumulation_steps}


def _file(state: Path) -> Path:
    return state / "loss_scale.json"


def _set_right(trainer: Trainer, factor: float, model: str, builder: str) -> None:
    """Make a trainer treat its model's loss as a mean.

    Raises:
        UserError: The loss comes from `compute_loss_func`, which the trainer uses as it is.
    """
    args = trainer.args
    on = counted(args.world_size, "worker")
    if trainer.compute_loss_func is not None:
        raise UserError(
            f"build_trainer ({builder}): compute_loss_func returns a mean, but HF expects the sum"
            " of the losses, divided by num_items_in_batch, so the loss is"
            f" {factor:g} times too large on {on} with gradient_accumulation_steps"
            f"={args.gradient_accumulation_steps}; return loss.sum() / num_items_in_batch if"
            " num_items_in_batch is not None"
        )
    _take_as_mean(trainer)
    logger.warning(
        "the loss of %s ignores num_items_in_batch, so HF now averages it over workers and"
        " accumulation steps",
        model,
    )


def _take_as_mean(trainer: Trainer) -> None:
    trainer.model_accepts_loss_kwargs = trainer.loss_is_scaled_for_ga = False


def _wrong_by(trainer: Trainer, model: Any, inputs: Mapping[str, Any], items: Any) -> float:
    """Return the factor by which the gradients are too large; 1 if they are right."""

    def loss(count: Any) -> float:
        with seeded(0):  # a loss may draw random numbers
            torch.manual_seed(0)  # also on a GPU
            value = trainer.compute_loss(model, dict(inputs), num_items_in_batch=count)
        return float(value.detach().float().mean())

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), torch.no_grad(), _unchanged(model):
        given, doubled, none = loss(items), loss(2 * items), loss(None)
    if not math.isclose(given, doubled, rel_tol=SAME) or given == 0:
        return 1.0  # the loss uses the number of items, or is 0
    over_workers = given / none if none else 1.0
    return round(over_workers, 2) * _not_divided(trainer)


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Restore the buffers and the weights without gradients that change within the context.

    Such weights may be a mean of earlier ones, which each pass updates. They are only copied if the
    copies take no more memory than the gradients, which do not exist yet.
    """
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = dict(model.named_parameters())
    frozen = {name: one for name, one in weights.items() if not one.requires_grad}
    size = sum(one.nbytes for one in frozen.values())
    if 2 * size <= sum(one.nbytes for one in weights.values()):
        kept |= {name: one.clone() for name, one in frozen.items()}
    versions = {name: one._version for name, one in frozen.items()}
    yield
    for name, one in [*model.named_buffers(), *frozen.items()]:
        if versions.get(name) == one._version:
            continue
        if (before := kept.get(name)) is not None and before.shape == one.shape:
            one.copy_(before)  # otherwise it was made by the first pass, such as a cache


def _not_divided(trainer: Trainer) -> int:
    """Return the accumulation steps by which HF fails to divide the loss."""
    scaled = getattr(trainer, "loss_is_scaled_for_ga", None)
    return trainer.args.gradient_accumulation_steps if scaled is None or scaled else 1


def _name(model: Any) -> str:
    return type(getattr(model, "module", model)).__name__
