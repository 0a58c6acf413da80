"""The classes that a builder's first parameter is annotated with, in any notation.

Runs wherever a builder is checked or called. It must not know what the classes are for.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any


def first_types(builder: Callable[..., Any]) -> list[type]:
    """Return the classes in the annotation of a builder's first parameter.

    `C` for `C`, `Optional[C]` and `C | None`, also if any of these is a string.
    """
    function, parameter = _first_parameter(builder)
    annotation = parameter.annotation if parameter is not None else None
    return list(_types(annotation, function.__module__))


def resolve_text(builder: Callable[..., Any]) -> None:
    """Replace an annotation that is a string with its first class.

    The workers receive the user's functions by value, without the module that the string refers to.
    """
    function, parameter = _first_parameter(builder)
    if parameter is not None and isinstance(parameter.annotation, str):
        for found in _types(parameter.annotation, function.__module__):
            function.__annotations__[parameter.name] = found
            return


def _first_parameter(builder: Callable[..., Any]) -> tuple[Any, inspect.Parameter | None]:
    """Return the function that a builder finally calls, and its first parameter."""
    function: Any = builder
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type):
        function = vars(function).get("__init__", function)
    elif not inspect.isroutine(function):
        function = type(function).__call__
    function = inspect.unwrap(getattr(function, "__func__", function))
    found = (p for p in inspect.signature(function).parameters.values() if p.name != "self")
    return function, next(found, None)


def _types(annotation: Any, module: str) -> Iterator[type]:
    if isinstance(annotation, str):
        yield from _types_in_text(annotation, module)
    elif isinstance(annotation, typing.ForwardRef):
        yield from _types_in_text(annotation.__forward_arg__, module)
    elif parts := typing.get_args(annotation):
        for part in parts:
            yield from _types(part, module)
    elif isinstance(annotation, type):
        yield annotation


def _types_in_text(text: str, module: str) -> Iterator[type]:
    try:
        expression = ast.parse(text, mode="eval")
    except SyntaxError:
        return
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _types_in_text(node.value, module)
        elif isinstance(node, ast.Name | ast.Attribute):
            found = _named(node, module)
            if isinstance(found, type):
                yield found


def _named(node: ast.expr, module: str) -> Any:
    """Return what a name such as `TrainingArguments` or `trl.SFTConfig` refers to, or None.

    A name that is imported only for type checkers is looked up in `transformers`.
    """
    import transformers

    if isinstance(node, ast.Name):
        known = getattr(sys.modules.get(module), node.id, None)
        return known or getattr(transformers, node.id, None)
    if isinstance(node, ast.Attribute):
        known = getattr(_named(node.value, module), node.attr, None)
        return known or getattr(transformers, node.attr, None)
    return None
