"""A digest of the user's own code in a builder: the rows that it prepares depend on it.

Runs wherever data is prepared; the digest is the same in each process. It must not know what the
code does.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from sweeps.space.user_code import code_parts, is_own

_OF_MODULES = {"__file__", "__name__", "__spec__", "__package__"}
"""Globals that differ in a copy of the code."""


def own_code(kind: type) -> str | None:
    """Return a digest of what a class gets from classes outside `sweeps`; None if it gets nothing.

    It covers their methods, except special ones such as `__call__`, which prepare nothing. It also
    covers the user's own functions, classes, modules and constants that the methods use.
    """
    met = set[Any]()
    parts = [part for each in kind.__mro__ if not _is_shipped(each) for part in _parts(each, met)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16] if parts else None


def _is_shipped(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("sweeps", "builtins")


def _parts(kind: type, met: set[Any]) -> Iterator[Any]:
    """Yield the parts of a class, apart from the default values of its fields."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    left_out = {each.name for each in fields}
    for name, value in vars(kind).items():
        if name.startswith("__") or name in left_out:
            continue
        if (function := _function(value)) is not None:
            yield name, *_parts_of_function(function, met)
        elif isinstance(value, Mapping):  # such as `tokenizer_options`
            yield name, sorted((key, _plain(inner)) for key, inner in value.items())
        else:
            yield name, _plain(value)


def _parts_of_function(function: FunctionType, met: set[Any]) -> Iterator[Any]:
    code = function.__code__
    if code in met:
        return
    met.add(code)
    yield code_parts(code), _plain(function.__defaults__)
    for name in sorted(_names(code) & function.__globals__.keys() - _OF_MODULES):
        used = function.__globals__[name]
        if (other := _function(used)) is not None:
            if is_own(other.__code__.co_filename):
                yield name, *_parts_of_function(other, met)
        elif isinstance(used, type):
            if used not in met and any(map(_is_own, vars(used).values())):
                met.add(used)
                yield name, *_parts(used, met)
        elif isinstance(used, ModuleType):
            file = getattr(used, "__file__", None)
            if file is not None and is_own(file):
                yield name, hashlib.sha256(Path(file).read_bytes()).hexdigest()
        else:
            yield name, _plain(used)


def _function(value: Any) -> FunctionType | None:
    """Return the Python function inside a method, a property or a partial, if there is one."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, partial | cached_property):
        value = value.func
    return value if isinstance(value, FunctionType) else None


def _is_own(value: Any) -> bool:
    function = _function(value)
    return function is not None and is_own(function.__code__.co_filename)


def _plain(value: Any) -> Any:
    """Return a constant; None for anything else, which may change or differ between processes.

    A path may differ as well: workers run a copy of the code.
    """
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return value if isinstance(value, str | int | float) and not is_path else None


def _names(code: CodeType) -> set[str]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*map(_names, inner))
