"""Checks and converts values from users by their declared types, and says what is wrong with them.

Runs wherever a user passes arguments, fields or values of a space. It must not know what a value is
for.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import enum
import functools
import inspect
import math
import numbers
import os
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar

from sweeps.durations import parse_duration
from sweeps.errors import UserError
from sweeps.naming import nearest, some

WORDS: dict[Any, str] = {
    **{bool: "True or False", int: "an integer", float: "a number", str: "a string"},
    **{list: "a list", dict: "a dict", None: "None", types.NoneType: "None"},
    **{collections.abc.Mapping: "a dict", collections.abc.Callable: "a function"},
    timedelta: "a duration ('2h')",
}
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function so that its arguments are checked against their annotations.

    The function gets them as `settled` converts them. It raises a `UserError` that lists all
    unknown arguments, or all those of a wrong type.
    """
    signature = inspect.signature(function)
    several = [p.name for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL]

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        kinds, problems = _hints(function), list[str]()
        place = f"sweeps.{function.__qualname__}"
        _refuse_unknown(kwargs, list(signature.parameters), place, kinds)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:  # such as a missing argument
            raise TypeError(f"{place}: {error}") from None
        for name, value in bound.arguments.items():
            if name in kinds:
                kind: Any = kinds[name]
                if name in several:
                    kind = Sequence[kind]
                bound.arguments[name], problem = settled(name, kind, value)
                problems += [problem] if problem else []
        if problems:
            raise UserError(problems, place)
        return function(*bound.args, **bound.kwargs)

    return call


def known_fields(of: type[T]) -> type[T]:
    """Decorate a public dataclass so that an unknown field is a `UserError`."""
    init: Callable[..., None] = of.__init__
    names = list(inspect.signature(of).parameters)

    @functools.wraps(init)
    def call(self: T, *args: Any, **kwargs: Any) -> None:
        _refuse_unknown(kwargs, names, of.__name__, {})
        init(self, *args, **kwargs)

    setattr(of, "__init__", call)  # noqa: B010
    return of


def _refuse_unknown(
    given: Iterable[str], names: Sequence[str], place: str, kinds: Mapping[str, Any]
) -> None:
    """Raise a `UserError` that lists the unknown arguments, with what may be meant by each.

    Args:
        given: The names of the keyword arguments.
        names: The names that exist.
        place: What is called.
        kinds: The types of the arguments; a field of one of them is said to belong there.
    """
    owners = {
        field.name: f"{name}={of.__name__}({field.name}=...)"
        for name, kind in kinds.items()
        for of in _parts(kind)
        if isinstance(of, type) and dataclasses.is_dataclass(of)
        for field in dataclasses.fields(of)
        if field.kw_only
    }
    problems = [
        f"no argument named {name!r}"
        + (f"; write {owners[name]}" if name in owners else nearest(name, names))
        for name in given
        if name not in names
    ]
    if problems:
        raise UserError(problems, place)


def settle_fields(owner: Any) -> list[str]:
    """Convert the fields of a frozen dataclass as `settled` does; return the problems with them."""
    problems: list[str] = []
    of: Any = type(owner)
    for name, kind in _hints(of).items():
        value, problem = settled(name, kind, getattr(owner, name))
        object.__setattr__(owner, name, value)
        problems += [problem] if problem else []
    return problems


@functools.cache
def _hints(of: Any) -> dict[str, Any]:
    return typing.get_type_hints(of)


def settled(name: str, kind: Any, value: Any) -> tuple[Any, str | None]:
    """Return a value converted to its type, and what is wrong with it, or None.

    A NumPy number becomes a Python number. Where the type is a string, a path becomes a string.
    Where it is a duration, a string is read as on the command line.

    Args:
        name: The name of the argument or field, for the message.
        kind: Its resolved type.
        value: The value.
    """
    try:
        value = _converted(kind, value)
    except ValueError as error:
        return value, f"{name}: {error}"
    return value, _problem(name, kind, value)


def _problem(name: str, kind: Any, value: Any) -> str | None:
    if accepts(kind, value):
        return None
    for part in _parts(kind):
        if isinstance(value, list | tuple) and typing.get_origin(part) is collections.abc.Sequence:
            (of,) = typing.get_args(part)
            found = (_problem(f"{name}[{i}]", of, each) for i, each in enumerate(value))
            return next(problem for problem in found if problem)
    wanted = f"must be {describe_type(kind)}{hint(kind, value)}"
    return f"{name} = {reprlib.repr(value)}: {wanted}"


def _converted(kind: Any, value: Any) -> Any:
    parts = _parts(kind)
    if isinstance(value, str) and timedelta in parts:
        return parse_duration(value)
    if isinstance(value, os.PathLike) and str in parts:
        return os.fspath(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral) and (int in parts or float in parts):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, int) and float in parts:
        return float(value)
    return value


def accepts(annotation: Any, value: Any) -> bool:
    """Tell whether a type accepts a value; True for unknown types."""
    if _is_union(annotation):
        # HF writes `SomeEnum | str`, but accepts only strings that are values of a member.
        members = [of for of in typing.get_args(annotation) if _is_enum(of)]
        others = [of for of in typing.get_args(annotation) if not (members and of is str)]
        return any(accepts(of, value) for of in others)
    if annotation is None or annotation is types.NoneType:
        return value is None
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return value in parts
    if _is_enum(annotation):
        return isinstance(value, annotation) or value in [member.value for member in annotation]
    kind = origin or annotation
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return is_number(value)
    if kind is list:
        return isinstance(value, list | tuple)
    if kind is collections.abc.Sequence:
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            return False
        return all(accepts(of, each) for of in parts for each in value)
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, Mapping)
    if kind is collections.abc.Callable:
        return callable(value)
    if kind in (bool, str, timedelta) or _is_own(kind):
        return isinstance(value, kind)
    return not _is_path(kind) or isinstance(value, str | os.PathLike)


def is_number(value: Any) -> bool:
    """Tell whether a value is a number; a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_text(annotation: Any) -> bool:
    """Tell whether a type accepts strings and, beside None, nothing else."""
    return set(_parts(annotation)) - {types.NoneType} == {str}


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _parts(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; of any other type, itself."""
    return typing.get_args(annotation) if _is_union(annotation) else (annotation,)


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, os.PathLike)


def _is_own(kind: Any) -> bool:
    """Tell whether a type is a class of this package."""
    return isinstance(kind, type) and kind.__module__.partition(".")[0] == __package__


def describe_type(annotation: Any) -> str:
    """Return a type in words, such as `an integer or None`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if _is_union(annotation):
        enums = [of for of in parts if _is_enum(of)]
        return " or ".join(describe_type(of) for of in parts if not (enums and of is str))
    if origin is Literal:
        return _one_of(parts)
    if _is_enum(annotation):
        return _one_of([member.value for member in annotation])
    kind = origin or annotation
    if kind is collections.abc.Sequence:
        named = [of for of in parts if (typing.get_origin(of) or of) in WORDS or _is_own(of)]
        return "".join(["a list", *(f" of {describe_type(of).split()[-1]}s" for of in named)])
    if kind in WORDS:
        return WORDS[kind]
    if _is_path(kind):
        return "a path"
    name = str(getattr(annotation, "__name__", annotation))
    return f"a {name}" if _is_own(kind) else name


def _one_of(values: Iterable[Any]) -> str:
    shown = [repr(value) for value in values]
    if len(shown) < 3:
        return " or ".join(shown)
    return f"one of {some(shown)}"


def hint(annotation: Any, value: Any) -> str:
    """Return a hint with the closest valid value, for a value that is not valid."""
    parts = _parts(annotation)
    if timedelta in parts and is_number(value):
        return f"; write '{value:g}s' for seconds"
    if not isinstance(value, str):
        return ""
    if any(typing.get_origin(of) is collections.abc.Sequence for of in parts):
        return f"; write [{value!r}]" if accepts(annotation, [value]) else ""
    if near := difflib.get_close_matches(value, list(_names(parts)), n=1):
        return f"; did you mean {near[0]!r}?"
    try:
        number = float(value)
    except ValueError:
        return ""
    whole = number.is_integer() and accepts(annotation, int(number))
    meant = int(number) if whole else number
    valid = math.isfinite(meant) and accepts(annotation, meant)
    return f"; write {meant!r} without quotes" if valid else ""


def _names(parts: Iterable[Any]) -> Iterator[str]:
    """Yield the valid values among these types that have a name."""
    for of in parts:
        if _is_enum(of):
            yield from (str(member.value) for member in of)
        elif typing.get_origin(of) is Literal:
            yield from map(str, typing.get_args(of))
