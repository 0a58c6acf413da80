"""The types that arguments and builder keywords have, and whether a builder can be called.

Runs in the sweep process; reads signatures and calls nothing. It must not know any value.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal

from sweeps.space.arguments import argument_class
from sweeps.space.conditions import branches_of
from sweeps.space.search_space import MAX_ROWS, TOTAL_BATCH, SearchSpace, builder_keywords


def value_types(builder: Callable[..., Any]) -> dict[str, Any]:
    """Return the type of every argument and builder keyword; `Any` where it cannot be told.

    A text argument that lists its choices has them for a type.
    """
    arguments = argument_class(builder)
    types = _hints(arguments)
    for field in dataclasses.fields(arguments):
        if types[field.name] is str and (choices := field.metadata.get("choices")):
            types[field.name] = Literal[tuple(choices)]
    own = _hints(type(builder) if dataclasses.is_dataclass(builder) else builder)
    keywords = {name: own.get(name, Any) for name in builder_keywords(builder)}
    return {**types, **keywords, TOTAL_BATCH: int, MAX_ROWS: int}


def _hints(of: Any) -> dict[str, Any]:
    """Return the resolved annotations; `Any` for text that names nothing here."""
    try:
        return typing.get_type_hints(of)
    except (NameError, TypeError, AttributeError):
        found = dict(getattr(of, "__annotations__", {}))
        return {key: Any if isinstance(kind, str) else kind for key, kind in found.items()}


def call_problems(space: SearchSpace) -> Iterator[str]:
    """Yield why `build_trainer` could not be called with what a trial sets."""
    builder = space.build_trainer
    whole = dataclasses.is_dataclass(builder)
    # The signature of an instance is its __call__'s, without self.
    parameters = list(inspect.signature(builder).parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        yield "build_trainer: its first parameter must take the TrainingArguments"
        return
    for parameter in parameters[1:]:
        name = parameter.name
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            yield f"build_trainer: its parameter {name!r} cannot be given by name; remove the '/'"
        elif parameter.default is not inspect.Parameter.empty:
            continue
        elif name == "data" and not hasattr(builder, "prepare"):
            yield "build_trainer: 'data' is what its prepare() returns, and it has no prepare()"
        elif name == "data":
            continue
        elif whole:
            yield f"build_trainer: __call__ needs {name!r}; make it a field of the builder"
        elif name not in space.tuned and name not in space.fixed:
            yield f"build_trainer needs {name!r}: give it in tuned or fixed, or a default"
        elif all(branch.condition for branch in branches_of(name, space.tuned.get(name, ()))) and (
            name not in space.fixed
        ):
            yield (
                f"build_trainer: {name!r} is tuned under a condition, so it needs a default"
                " for the trials where that is false"
            )
