"""Finds the line of the user's own code that did something, and what such code may not do.

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
from typing import Any

from sweeps.errors import UserError

_LIBRARIES = {
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")),
    Path(__file__).resolve().parents[1],
}
_PACKAGES = {"site-packages", "dist-packages"}
"""Folders of installed packages, wherever they lie: below the user's home, say."""
_PARSERS = {
    *("argparse", "transformers", "trl", "click", "typer", "fire", "absl", "docopt", "tyro"),
    *("simple_parsing", "jsonargparse", "hydra"),
}
"""Packages that read the command line for whoever uses them."""


def shown(file: Path) -> Path:
    """Return the file relative to the working folder, if it is below."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def own_line(frames: Iterable[FrameSummary]) -> FrameSummary | None:
    """Return the innermost of some frames, outermost first, that is the user's own code."""
    return next((frame for frame in reversed(list(frames)) if is_own(frame.filename)), None)


def own_line_here() -> FrameSummary | None:
    """Return the line of the user's own code that led here."""
    return own_line(traceback.extract_stack())


def own_caller() -> FrameSummary | None:
    """Return the line that called the caller of this, if that is the user's own code."""
    frame = traceback.extract_stack()[-3]
    return frame if is_own(frame.filename) else None


def problem_at(frame: FrameSummary | None, problem: str) -> UserError:
    """Return the error for a problem at a line of the user's own code, if there is one."""
    if frame is None:
        return UserError(problem)
    code = f"{frame.line}: " if frame.line else ""
    return UserError(f"line {frame.lineno}: {code}{problem}", str(shown(Path(frame.filename))))


def ended_process(error: SystemExit) -> UserError:
    """Return the error for code that ends the process that it runs in."""
    return problem_at(
        own_line(traceback.extract_tb(error.__traceback__)),
        f"ends the process ({error!r}); raise an error that says what is wrong instead",
    )


@contextmanager
def guarded(owner: Any, name: str, guard: Callable[..., None]) -> Iterator[None]:
    """Call `guard` before each call of a method, with its arguments, for the time of the context.

    A patch that the user's code makes meanwhile stays, and the method that it found is unguarded
    afterwards.
    """
    own, active = getattr(owner, name), True

    @functools.wraps(own)
    def method(*args: Any, **options: Any) -> Any:
        if active:
            guard(*args, **options)
        return own(*args, **options)

    setattr(owner, name, method)
    try:
        yield
    finally:
        active = False
        if getattr(owner, name) is method:
            setattr(owner, name, own)


@contextmanager
def without_command_line() -> Iterator[None]:
    """Refuse to let the user's code read the command line: it is not that of their script.

    Raises:
        UserError: It does, by itself or with a library that parses it.
    """
    argv = sys.argv
    sys.argv = _NoWords(argv[:1])
    try:
        yield
    finally:
        sys.argv = argv


class _NoWords(list[str]):
    """`sys.argv` without a word of our command line, or of Ray's."""

    def __getitem__(self, index: Any) -> Any:
        """Return what a library finds; refuse the user's code all but the program's name."""
        if index != 0 and (caller := _caller()) is not None and is_own(caller.filename):
            raise problem_at(
                caller,
                "the command line belongs to sweeps; make each option a keyword of build_trainer,"
                " and put its value into fixed or tuned",
            )
        return super().__getitem__(index)


def _caller() -> FrameSummary | None:
    """Return the frame that reads the command line, or has a parser read it."""
    outwards = reversed(traceback.extract_stack()[:-2])
    return next((frame for frame in outwards if not _is_parser(frame.filename)), None)


def _is_parser(file: str) -> bool:
    place = Path(file)
    return not is_own(file) and not _PARSERS.isdisjoint((place.stem, *place.parts))


@cache
def is_own(file: str) -> bool:
    """Tell whether a file is the user's own code, not that of a library."""
    if file.startswith("<"):
        return file.startswith("<ipython")
    place = Path(file).resolve()
    return (
        _PACKAGES.isdisjoint(place.parts)
        and not any(place.is_relative_to(library) for library in _LIBRARIES)
        and not any(
            place.relative_to(folder).parts[0] in _installed(folder) for folder in place.parents
        )
    )


@cache
def _installed(folder: Path) -> frozenset[str]:
    """Return what pip has installed into a folder of any name, as `pip install --target` does."""
    found = map(Distribution.at, folder.glob("*.dist-info"))
    return frozenset(file.parts[0] for each in found for file in each.files or ())
