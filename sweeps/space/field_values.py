"""Valid values of an argument or builder keyword: its type, and the range that HF does not declare.

Runs in the sweep process when a space is checked, and wherever `KEY=VALUE` is applied; reads
signatures and calls nothing. It must not know which arguments a space sets.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from ray.tune.search.sample import Categorical, Domain, Float

from sweeps.space import ranges
from sweeps.space.arguments import argument_class
from sweeps.space.builder import Adapted
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

TYPES: dict[Any, str] = {
    **{bool: "True or False", int: "an integer", float: "a number", str: "a string"},
    **{list: "a list", dict: "a dict", None: "None", types.NoneType: "None"},
}


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
        return f"must be {describe_type(annotation)}{_hint(annotation, value)}"
    if not ranges.is_number(value):
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


def accepts(annotation: Any, value: Any) -> bool:
    """Tell whether a type accepts a value; True for unknown types."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        # HF writes `SomeEnum | str`, but accepts only strings that are values of a member.
        members = [of for of in typing.get_args(annotation) if _is_enum(of)]
        others = [of for of in typing.get_args(annotation) if not (members and of is str)]
        return any(accepts(of, value) for of in others)
    if annotation is None or annotation is types.NoneType:
        return value is None
    if origin is typing.Literal:
        return value in typing.get_args(annotation)
    if _is_enum(annotation):
        return isinstance(value, annotation) or value in [member.value for member in annotation]
    kind = origin or annotation
    if kind is bool or kind is str:
        return isinstance(value, kind)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return ranges.is_number(value)
    if kind is list:
        return isinstance(value, list | tuple)
    if kind is dict:
        return isinstance(value, Mapping)
    return True


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def describe_type(annotation: Any) -> str:
    """Return a type in words, such as `an integer or None`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        parts = typing.get_args(annotation)
        enums = [of for of in parts if _is_enum(of)]
        return " or ".join(describe_type(of) for of in parts if not (enums and of is str))
    if origin is typing.Literal:
        return _one_of(typing.get_args(annotation))
    if _is_enum(annotation):
        return _one_of([member.value for member in annotation])
    kind = origin or annotation
    return TYPES[kind] if kind in TYPES else str(getattr(annotation, "__name__", annotation))


def _one_of(values: typing.Iterable[Any]) -> str:
    shown = [repr(value) for value in values]
    rest = f" or {len(shown) - 6} others" if len(shown) > 6 else ""
    return f"one of {', '.join(shown[:6])}{rest}" if len(shown) > 1 else shown[0]


def _hint(annotation: Any, value: Any) -> str:
    """Return a hint with the closest valid value, for a string that is not valid."""
    if not isinstance(value, str):
        return ""
    parts = typing.get_args(annotation) or (annotation,)
    known = [str(member.value) for of in parts if _is_enum(of) for member in of]
    if typing.get_origin(annotation) is typing.Literal:
        known = [str(part) for part in parts]
    if near := difflib.get_close_matches(value, known, n=1):
        return f"; did you mean {near[0]!r}?"
    try:
        number = float(value)
    except ValueError:
        return ""
    as_whole = int(number) if number == int(number) and accepts(annotation, int(number)) else number
    return f"; write {as_whole!r} without quotes" if accepts(annotation, as_whole) else ""
