"""Says in one line what Python found wrong with the user's file, and suggests a similar name.

Runs in the process that imports the file. It must not know what the file is for.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from traceback import FrameSummary
from typing import Any

from sweeps.errors import UserError
from sweeps.naming import nearest
from sweeps.space.user_code import own_line, problem_at, shown

_IMPORTING = re.compile(r"<frozen importlib|.*/importlib/__init__\.py$")
_NOT_EXPORTED = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")
_NOT_A_KEYWORD = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
_NOT_BY_NAME = re.compile(r"([\w.<>]+)\.__init__\(\) takes 1 positional argument but \d+")
_NOT_GIVEN = re.compile(r"([\w.<>]+)\(\) missing \d+ required [\w-]+ arguments?: (.+)")


def mistake(error: Exception, file: Path) -> UserError | None:
    """Describe a wrong name, keyword, import or syntax in one line; None for any other error.

    Args:
        error: The error that an import of the user's code raised.
        file: The imported file, for a syntax error that does not name one.
    """
    if isinstance(error, SyntaxError):
        text = f": {error.text.strip()}" if error.text else ""
        line = f"line {error.lineno}: " if error.lineno else ""
        return UserError(f"{line}{error.msg}{text}", str(shown(Path(error.filename or file))))
    frames = [
        (frame, summary)
        for (frame, _), summary in zip(
            traceback.walk_tb(error.__traceback__),
            traceback.extract_tb(error.__traceback__),
            strict=True,
        )
        if not _IMPORTING.match(summary.filename)
    ]
    frame, summary = frames[-1]
    if isinstance(error, ImportError) and (found := _failed_import(error, summary)):
        return found
    if own_line([summary]) is None:
        return None
    names = {**vars(builtins), **frame.f_globals, **frame.f_locals}
    if isinstance(error, TypeError):
        return _wrong_call(error, summary, names)
    if isinstance(error, AttributeError) and error.name is not None:
        return problem_at(summary, f"{error}{nearest(error.name, _public(dir(error.obj)))}")
    if isinstance(error, NameError) and error.name is not None:
        return problem_at(summary, f"{error}{nearest(error.name, _public(names))}")
    return None


def _failed_import(error: ImportError, summary: FrameSummary) -> UserError | None:
    if "relative import" in error.msg:
        return problem_at(
            summary,
            "a space loaded from a file is not part of a package; import the neighbouring module"
            " by its plain name, or pass the space as a dotted module",
        )
    if found := _NOT_EXPORTED.match(error.msg):
        name, module = found.groups()
        owner = sys.modules.get(module)
        hint = nearest(name, _public({*dir(owner), *getattr(owner, "__all__", ())}))
        return problem_at(summary, f"{module} has no {name!r}{hint}")
    missing = isinstance(error, ModuleNotFoundError) or "cannot import name" in error.msg
    return problem_at(summary, error.msg) if missing else None


def _wrong_call(
    error: TypeError, summary: FrameSummary, names: Mapping[str, Any]
) -> UserError | None:
    """Return what is wrong with the keywords of a call, with the line of the wrong keyword."""
    place = str(shown(Path(summary.filename)))
    if found := _NOT_A_KEYWORD.match(str(error)):
        called, word = found[1].removesuffix(".__init__"), found[2]
        for call in _calls(summary):
            for keyword in call.keywords:
                if keyword.arg == word:
                    hint = nearest(word, _keywords(call.func, names))
                    problem = f"{ast.unparse(keyword)}: {called} has no argument {word!r}{hint}"
                    return UserError(f"line {keyword.lineno}: {problem}", place)
    if found := _NOT_BY_NAME.match(str(error)):
        for call in _calls(summary):
            if call.args and (keywords := _keywords(call.func, names)):
                wanted = ", ".join(f"{name}=" for name in keywords)
                problem = f"{found[1]}(...) accepts only keyword arguments: {wanted}"
                return UserError(f"line {summary.lineno}: {problem}", place)
    if found := _NOT_GIVEN.match(str(error)):
        called = found[1].removesuffix(".__init__")
        return UserError(f"line {summary.lineno}: {called}(...) requires {found[2]}", place)
    return None


def _calls(summary: FrameSummary) -> Iterator[ast.Call]:
    """Yield the calls that start on a line."""
    for node in ast.walk(ast.parse(Path(summary.filename).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.lineno == summary.lineno:
            yield node


def _keywords(function: ast.expr, names: Mapping[str, Any]) -> list[str]:
    """Return the keywords of the function that a line calls."""
    first, *rest = ast.unparse(function).split(".")
    called = names.get(first)
    for name in rest:
        called = getattr(called, name, None)
    try:
        return list(inspect.signature(called).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []


def _public(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith("_")]
