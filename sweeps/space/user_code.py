"""Finds the responsible line of the user's own code, and guards methods it must not call.

Runs wherever the user's code does. It must not know what that code is for.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path
from traceback import FrameSummary
from types import CodeType
from typing import Any

from sweeps.errors import UserError

_LIBRARIES = {
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")),
    Path(__file__).resolve().parents[1],
}
_PACKAGES = {"site-packages", "dist-packages"}
"""Folders of installed packages, wherever they are, such as below the user's home."""


def shown(file: Path) -> Path:
    """Return the file relative to the working folder, if it is inside that folder."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def own_line(frames: Iterable[FrameSummary]) -> FrameSummary | None:
    """Return the innermost frame that is the user's own code; `frames` start with the outermost."""
    return next((frame for frame in reversed(list(frames)) if is_own(frame.filename)), None)


def own_line_here() -> FrameSummary | None:
    """Return the line of the user's own code that led to this call."""
    return own_line(traceback.extract_stack())


def own_caller() -> FrameSummary | None:
    """Return the line that called this function's caller, if it is the user's own code."""
    frame = traceback.extract_stack()[-3]
    return frame if is_own(frame.filename) else None


def own_setter(changed: Any) -> FrameSummary | None:
    """Return the user's own line that sets a field, directly or by a method of the object.

    Called by the function that stands in for `__setattr__`.
    """
    modules = [sys.modules[kind.__module__] for kind in type(changed).__mro__]
    files = {getattr(module, "__file__", None) for module in modules}
    outwards = reversed(traceback.extract_stack()[:-2])
    frame = next(each for each in outwards if is_own(each.filename) or each.filename not in files)
    return frame if is_own(frame.filename) else None


def problem_at(frame: FrameSummary | None, problem: str) -> UserError:
    """Return the error for a problem, with the line of the user's own code if there is one."""
    if frame is None:
        return UserError(problem)
    code = f"{frame.line}: " if frame.line else ""
    return UserError(f"line {frame.lineno}: {code}{problem}", str(shown(Path(frame.filename))))


def ended_process(error: SystemExit) -> UserError:
    """Return the error for code that tries to end its process."""
    return problem_at(
        own_line(traceback.extract_tb(error.__traceback__)),
        f"ends the process ({error!r}); raise an error that explains the problem instead",
    )


@contextmanager
def guarded_train(trainer: Any, guard: Callable[..., None]) -> Iterator[None]:
    """Within the context, call `guard` with the same arguments before each call of `train`.

    If the user's code patches it within the context, its patch stays, but what it wraps is no
    longer guarded afterwards.
    """
    own, active = trainer.train, True

    @functools.wraps(own)
    def method(*args: Any, **options: Any) -> Any:
        if active:
            guard(*args, **options)
        return own(*args, **options)

    trainer.train = method
    try:
        yield
    finally:
        active = False
        if trainer.train is method:
            trainer.train = own


@cache
def is_own(file: str) -> bool:
    """Tell whether a file is the user's own code rather than library code."""
    if file.startswith("<"):
        return file.startswith("<ipython")
    place = Path(file).resolve()
    return (
        _PACKAGES.isdisjoint(place.parts)
        and not any(place.is_relative_to(library) for library in _LIBRARIES)
        and not any(
            place.relative_to(folder).as_posix() in _installed(folder) for folder in place.parents
        )
    )


@cache
def _installed(folder: Path) -> frozenset[str]:
    """Return the files that pip has put into a folder, such as with `pip install --target`."""
    found = map(Distribution.at, folder.glob("*.dist-info"))
    return frozenset(file.as_posix() for each in found for file in each.files or ())


def code_parts(code: CodeType) -> list[Any]:
    """Return what code consists of, except where it is; the same in every process."""
    constants = [
        code_parts(each) if isinstance(each, CodeType)
        else sorted(map(repr, each)) if isinstance(each, frozenset)
        else repr(each)
        for each in code.co_consts
    ]  # fmt: skip
    return [code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, constants]
