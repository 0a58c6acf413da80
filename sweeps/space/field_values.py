"""Valid values of an argument or builder keyword: its type, and the range that HF does not declare.

Runs in the sweep process when a space is checked, and wherever `KEY=VALUE` is applied; reads
signatures and calls nothing. It must not know which arguments a space sets.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

from ray.tune.search.sample import Categorical, Domain, Float

from sweeps.declared_types import accepts, describe_type, hint, is_number
from sweeps.space import ranges
from sweeps.space.adapted import Adapted
from sweeps.space.arguments import argument_class
from sweeps.space.plain_values import meant_choices
from sweeps.space.search_space import MAX_ROWS, TOTAL_BATCH

AT_LEAST_0 = (
    *("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps"),
    *("neftune_noise_alpha", "dataloader_num_workers", "seed", "data_seed"),
)
AT_LEAST_1 = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("eval_accumulation_steps", "dataloader_prefetch_factor", "torch_empty_cache_steps"),
    *("total_train_batch_size", "max_rows_per_device", "ddp_timeout"),
)
BELOW_1 = ("adam_beta1", "adam_beta2", "label_smoothing_factor")
ABOVE_0 = ("num_train_epochs", "logging_steps")


def value_types(builder: Callable[..., Any]) -> dict[str, Any]:
    """Return the type of every argument and builder keyword; `Any` if unknown.

    A string argument that lists its choices has these choices as its type.
    """
    arguments = argument_class(builder)
    types = _hints(arguments)
    for field in dataclasses.fields(arguments):
        if types[field.name] is str and (choices := field.metadata.get("choices")):
            types[field.name] = Literal[tuple(choices)]
    if "fsdp" in types:
        types["fsdp"] = types["fsdp"] | bool  # HF's annotation only suits its command line (5.23)
    own = Adapted(builder)
    hints = _hints(type(builder) if own.has_fields else builder)
    keywords = {name: hints.get(name, Any) for name in own.keywords}
    return {**types, **keywords, TOTAL_BATCH: int, MAX_ROWS: int}


def _hints(of: Any) -> dict[str, Any]:
    """Return the resolved annotations; `Any` for a string that cannot be resolved."""
    try:
        return typing.get_type_hints(of)
    except (NameError, TypeError, AttributeError):
        found = dict(getattr(of, "__annotations__", {}))
        return {key: Any if isinstance(kind, str) else kind for key, kind in found.items()}


def value_problem(key: str, annotation: Any, value: Any) -> str | None:
    """Return why an argument or keyword cannot have this value; None if it can.

    Args:
        key: Its name.
        annotation: Its resolved type; `Any` if unknown.
        value: The value.
    """
    if not accepts(annotation, value):
        return f"must be {describe_type(annotation)}{hint(annotation, value)}"
    if not is_number(value):
        return None
    if not math.isfinite(value):
        return "must be finite"
    if key == "max_steps" and value != -1 and value < 1:
        return "must be at least 1, or -1 to disable it"
    if key in AT_LEAST_1 and value < 1:
        return "must be at least 1"
    if key in ABOVE_0 and value <= 0:
        return "must be greater than 0"
    if (key in AT_LEAST_0 or key in BELOW_1) and value < 0:
        return "must be at least 0"
    if key in BELOW_1 and value >= 1:
        return "must be below 1"
    return None


def domain_problems(key: str, annotation: Any, domain: Domain) -> Iterator[str]:
    """Yield the reasons why some values of a domain are not valid for an argument or keyword.

    Args:
        key: Its name.
        annotation: Its resolved type; `Any` if unknown.
        domain: A domain that is valid in itself.
    """
    if isinstance(domain, Categorical):
        for choice in meant_choices(domain):
            if problem := value_problem(key, annotation, choice):
                yield f"the choice {choice!r} {problem}"
        return
    found = ranges.range_of(domain)
    assert found is not None
    example = 0.5 if isinstance(domain, Float) else 1
    if not accepts(annotation, example):
        gives = "fractions" if isinstance(domain, Float) else "integers"
        fix = _as_whole(found) if accepts(annotation, 1) else "choice([...])"
        wanted = describe_type(annotation)
        yield f"{found} yields {gives}, but the value must be {wanted}; use {fix}"
        return
    for end in (found.lower, found.last):
        if problem := value_problem(key, annotation, end):
            yield f"{found} can yield {end}, but the value {problem}"
    if key == "warmup_steps" and isinstance(domain, Float) and found.lower < 1 < found.upper:
        yield (
            f"{found} mixes fractions of all steps (below 1) with step counts (1 or more); use"
            " uniform(0.0, 0.1) or randint(0, 1000)"
        )


def _as_whole(of: ranges.Range) -> str:
    """Return the integer range that is closest to a range of fractions."""
    lower, upper = math.ceil(of.lower), math.floor(of.upper)
    quantum = None if of.quantum is None else max(1, round(of.quantum))
    name = of.name.replace("uniform", "randint")
    end = upper + 1 if quantum is None else upper
    whole = dataclasses.replace(of, name=name, lower=lower, upper=end, quantum=quantum)
    return str(whole) if ranges.range_problem(whole) is None else f"{name}(...)"
