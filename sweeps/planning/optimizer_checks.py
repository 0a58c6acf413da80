"""Checks the arguments of the optimizer and its schedule: HF reads them only as training begins.

Runs in the sweep process before Ray starts. It must not know what is trained: nothing is said about
a trainer that may create its optimizer or schedule itself.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from sweeps.space.code_copy import own_files
from sweeps.space.conditions import Branch, branches, choose
from sweeps.space.constraints import broken_constraint
from sweeps.space.domains import ends, some_value
from sweeps.space.needed_packages import needs
from sweeps.space.search_space import SearchSpace, fixed_values
from sweeps.space.sharding import uses_deepspeed

if TYPE_CHECKING:
    from transformers import TrainingArguments

    Make: TypeAlias = Callable[[Mapping[str, Any]], TrainingArguments]
    """Returns the arguments of a trial with these params."""

_OF_OPTIMIZER = {"optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"}
_OF_SCHEDULE = {"lr_scheduler_kwargs", "warmup_steps"}
_KINDS = ("optim", "lr_scheduler_type")
"""The arguments that determine which of these have an effect."""
_OWN = re.compile(
    r"create_optimizer|create_scheduler|optimizers\s*=|optimizer_cls|get_optimizer|get_\w*schedule"
)
"""Code of a trainer with an optimizer or a schedule of its own."""
_STEPS = 1_000_000
"""Optimizer steps of a trial: so many that small fractions of them differ."""


def optimizer_problems(
    space: SearchSpace, samples: Sequence[Mapping[str, Any]], make: Make
) -> Iterator[str]:
    """Yield what HF would reject as training begins, each reason once.

    Args:
        space: The search space.
        samples: The first params.
        make: Makes arguments, which it must accept for the samples.
    """
    if _may_have_its_own(space):
        return
    tried = [(f"params {params}", dict(params)) for params in samples]
    for branch in _branches(space, {*_OF_OPTIMIZER, *_OF_SCHEDULE, *_KINDS}):
        for value in ends(branch.domain):
            if params := _params(space, samples[0], {**branch.condition, branch.key: value}):
                tried.append((f"tuned[{branch.key!r}] = {value!r}", params))
    said = set[tuple[str, str]]()
    for what, params in tried:
        args = _made(make, params)
        for kind, part in _PARTS.items() if args else ():
            try:
                part(args)
            except Exception as error:
                reason = kind, re.sub(r"[-+.\d]+", "", str(error))  # the same for other numbers
                if reason not in said:
                    said.add(reason)
                    yield f"{what}: HF rejects it with {kind}={_plain(args, kind)}: {error}"


def without_effect(
    space: SearchSpace, samples: Sequence[Mapping[str, Any]], make: Make
) -> Iterator[str]:
    """Yield a warning for each tuned key whose values all lead to the same training.

    Args:
        space: The search space.
        samples: The first params.
        make: Makes arguments.
    """
    if not samples or _may_have_its_own(space):
        return
    kinds = _branches(space, set(_KINDS))
    contexts = [{one.key: value} for one in kinds for value in ends(one.domain)] or [{}]
    found: dict[str, set[str]] = {}
    effective = set[str]()
    for branch in _branches(space, _OF_OPTIMIZER | _OF_SCHEDULE):
        kind = _KINDS[branch.key.partition(".")[0] in _OF_SCHEDULE]
        for context in contexts:
            forced = [
                {**context, **branch.condition, branch.key: value} for value in ends(branch.domain)
            ]
            made = [_made(make, _params(space, samples[0], each)) for each in forced]
            results = list[Any]()
            with suppress(Exception):  # reported as a problem
                results = [args and _PARTS[kind](args) for args in made]
            if len(results) > 1 and all(each and each == results[0] for each in results):
                found.setdefault(branch.key, set()).add(f"{kind}={_plain(made[0], kind)}")
            elif results:
                effective.add(branch.key)
    for key in found.keys() - effective:
        yield f"tuned[{key!r}] has no effect with {' or '.join(sorted(found[key]))}"


def _may_have_its_own(space: SearchSpace) -> bool:
    """Tell whether the trainer may have an optimizer or a schedule that HF does not create."""
    from transformers import Trainer

    builder = space.builder
    if uses_deepspeed(space):  # its config may have both
        return True
    if builder.script_file is not None:
        folder = builder.script_folder
        files = [builder.script_file] if folder is None else own_files(folder)
        return any(_OWN.search(file.read_text()) for file in files if file.suffix == ".py")
    module = builder.module
    try:
        text = inspect.getsource(module) if module is not None else None
    except (OSError, TypeError):
        text = None
    if text is None or _OWN.search(text):
        return True
    kinds = [each for each in vars(module).values() if isinstance(each, type)]
    return any(
        getattr(kind, name) is not getattr(Trainer, name)
        for kind in kinds
        if issubclass(kind, Trainer)
        for name in ("create_optimizer", "create_scheduler", "get_optimizer_cls_and_kwargs")
    )


def _branches(space: SearchSpace, fields: set[str]) -> list[Branch]:
    keywords = space.builder.keywords
    return [
        branch
        for branch in branches(space.tuned)
        if branch.key.partition(".")[0] in fields and branch.key not in keywords
    ]


def _params(
    space: SearchSpace, sample: Mapping[str, Any], forced: Mapping[str, Any]
) -> dict[str, Any]:
    """Return params like a sample but with some values; empty if the space does not allow that."""

    def pick(branch: Branch) -> Any:
        if branch.key in forced:
            return forced[branch.key]
        return some_value(branch.domain, *(v for key, v in sample.items() if key == branch.key))

    params = choose(branches(space.tuned), fixed_values(space), pick)
    allowed = {**fixed_values(space), **params}
    if any(key not in allowed or allowed[key] != value for key, value in forced.items()):
        return {}
    return {} if broken_constraint(space, params) else params


def _made(make: Make, params: Mapping[str, Any]) -> Any:
    """Return the arguments of a trial; None for no params, or if they are rejected themselves."""
    with suppress(Exception):
        return make(params) if params else None
    return None


def _optimizer(args: TrainingArguments) -> Any:
    """Return what determines an optimizer of HF or PyTorch; None for any other.

    Raises:
        Exception: HF or the optimizer rejects these arguments.
    """
    import torch
    from transformers import Trainer

    if needs("optim", args.optim):  # another package, which may not be installed here
        return None
    kind, values = Trainer.get_optimizer_cls_and_kwargs(args)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        return None
    created = {name: value for name, value in values.items() if name != "fused"}  # for GPUs
    kind([torch.nn.Parameter(torch.zeros(1))], **created)
    return kind, values


def _schedule(args: TrainingArguments) -> Any:
    """Return what determines the learning-rate schedule.

    Raises:
        Exception: HF rejects these arguments.
    """
    from sweeps.builders.own_optimizer import hf_schedule, rule_of

    made = hf_schedule(args, _STEPS)
    return rule_of(made) or (type(made), made.state_dict())


def _plain(args: Any, field: str) -> Any:
    value = getattr(args, field)
    return getattr(value, "value", value)  # HF's enums


_PARTS: Mapping[str, Callable[[TrainingArguments], Any]] = dict(
    zip(_KINDS, (_optimizer, _schedule), strict=True)
)
"""What depends on each of these arguments."""
