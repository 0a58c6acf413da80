"""Finds arguments without effect: a trainer's own optimizer or schedule may not follow them.

Runs in a worker, and in the process of a dry run. It must not know which arguments a space sets.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
import transformers
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments, get_scheduler

from sweeps.errors import UserError

_IN_GROUPS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    "learning_rate": ("lr", lambda group: group.get("initial_lr", group["lr"])),
    "weight_decay": ("weight_decay", lambda group: group["weight_decay"]),
    "adam_beta1": ("betas[0]", lambda group: group["betas"][0]),
    "adam_beta2": ("betas[1]", lambda group: group["betas"][1]),
    "adam_epsilon": ("eps", lambda group: group["eps"]),
}
"""Arguments that are values of an optimizer's parameter groups: the name there, and the value."""
_CREATE = ("create_optimizer", "create_scheduler")
"""The methods of a trainer that HF calls as the training begins."""
_STEPS = 100
"""A number of optimizer steps, where any number does."""


def refuse_ignored(trainer: Trainer, fields: Collection[str]) -> None:
    """Refuse a trainer that ignores one of these arguments, now or as its training begins.

    Raises:
        UserError: Its own optimizer or schedule does not follow one of them.
    """

    def check() -> None:
        problems = [why for field, why in ignored_arguments(trainer).items() if field in fields]
        if problems:
            raise UserError(problems)

    def checked(create: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(create)
        def create_checked(*args: Any, **options: Any) -> Any:
            made = create(*args, **options)
            check()
            return made

        return create_checked

    check()
    for name in _own_methods(trainer):
        setattr(trainer, name, checked(getattr(trainer, name)))


def create_own(trainer: Trainer) -> None:
    """Have a trainer create its optimizer and schedule, if it does that itself and can do it now.

    It cannot train afterwards.
    """
    own = _own_methods(trainer)
    with suppress(Exception):  # such as an optimizer that needs a GPU
        if own and trainer.optimizer is None:
            trainer.create_optimizer()
        if "create_scheduler" in own:
            trainer.create_scheduler(_STEPS)


def _own_methods(trainer: Trainer) -> list[str]:
    return [name for name in _CREATE if getattr(type(trainer), name) is not getattr(Trainer, name)]


def ignored_arguments(trainer: Trainer) -> dict[str, str]:
    """Return the arguments that a trainer's own optimizer and schedule ignore, with the reason.

    An argument may still be ignored that is not here. One that is here certainly is, unless the
    optimizer has one value for all weights that is a multiple of the argument: a single trainer
    does not show that this is no constant.
    """
    return {**dict(_by_optimizer(trainer)), **dict(_by_schedule(trainer))}


def _by_optimizer(trainer: Trainer) -> Iterator[tuple[str, str]]:
    args, made = trainer.args, trainer.optimizer
    if made is not None:
        kind, groups, defaults = type(made), made.param_groups, getattr(made, "defaults", {})
    elif trainer.optimizer_cls_and_kwargs is not None:
        kind, own = trainer.optimizer_cls_and_kwargs
        groups, defaults = [own], {"weight_decay": args.weight_decay}
    else:
        return
    name = getattr(kind, "__name__", str(kind))
    for field, (key, value_in) in _IN_GROUPS.items():
        wanted, found = getattr(args, field), _values(groups, value_in)
        follows = any(_alike(value, wanted) for value in found + _values([defaults], value_in))
        found = [value for value in found if value] or found  # 0: HF does not decay biases either
        # Several values may be multiples of the argument.
        if not follows and all(value == found[0] for value in found):
            has = f"{key} = {found[0]!r}, not {wanted!r}" if found else f"no {key}"
            yield (
                field,
                f"{field} has no effect: the trainer's own optimizer ({name}) has {has};"
                f" create it from args.{field}, or remove {field} from the space",
            )
    with suppress(Exception):  # HF cannot create this one
        if Trainer.get_optimizer_cls_and_kwargs(args, trainer.model)[0] is not kind:
            for field in ("optim", "optim_args"):
                yield (
                    field,
                    f"{field} has no effect: the trainer has an optimizer of its own ({name});"
                    f" remove {field} from the space",
                )


def _values(
    groups: Sequence[Mapping[str, Any]], value_in: Callable[[Mapping[str, Any]], Any]
) -> list[Any]:
    """Return a value of each group that has it."""
    values = []
    for group in groups:
        with suppress(KeyError, TypeError, IndexError):  # has no such value
            values.append(value_in(group))
    return values


def _alike(found: Any, wanted: float) -> bool:
    with suppress(TypeError, ValueError):
        return math.isclose(float(found), wanted, rel_tol=1e-6)
    return False


def _by_schedule(trainer: Trainer) -> Iterator[tuple[str, str]]:
    """Yield what a schedule ignores if HF's functions created it; others cannot be told."""
    args, found = trainer.args, rule_of(trainer.lr_scheduler)
    if found is None:
        return
    name, numbers = found
    steps = numbers.get("num_training_steps", _STEPS)
    warmup = args.get_warmup_steps(steps)
    try:
        wanted = rule_of(hf_schedule(args, steps))
    except Exception:  # HF cannot create this one
        return
    kwargs = args.lr_scheduler_kwargs or {}
    ignored = []
    if wanted is None or wanted[0] != name:
        ignored += ["lr_scheduler_type", "lr_scheduler_kwargs"]
    elif any(numbers.get(key) != wanted[1].get(key) for key in kwargs):
        ignored.append("lr_scheduler_kwargs")
    if abs(numbers.get("num_warmup_steps", 0) - warmup) > 1:  # one more or less is rounding
        ignored.append("warmup_steps")
    for field in ignored:
        yield (
            field,
            f"{field} has no effect: the trainer's own schedule was created from other values;"
            f" create it from args.{field}, or remove {field} from the space",
        )


def hf_schedule(args: TrainingArguments, steps: int) -> Any:
    """Return the learning-rate schedule that HF creates for a number of optimizer steps.

    Raises:
        Exception: HF cannot create it from these arguments.
    """
    return get_scheduler(
        args.lr_scheduler_type,
        SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate),
        args.get_warmup_steps(steps),
        steps,
        args.lr_scheduler_kwargs,
    )


def rule_of(schedule: Any) -> tuple[str, Mapping[str, Any]] | None:
    """Return the function of HF that computes a schedule, and its numbers; None for any other."""
    rule: Any = schedule.lr_lambdas[0] if type(schedule) is LambdaLR else None
    function = getattr(rule, "func", rule)
    if getattr(function, "__module__", None) != transformers.optimization.__name__:
        return None
    return function.__qualname__, getattr(rule, "keywords", {})
