"""Refuses code that reads the command line, as a script written to be run by itself does.

Runs wherever the user's code does: the command line there belongs to `sweeps` or Ray. It must
not know what that code is for.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import FrameSummary
from typing import Any

from sweeps.space.user_code import is_own, problem_at

_PARSERS = {
    *("argparse", "transformers", "trl", "click", "typer", "fire", "absl", "docopt", "tyro"),
    *("simple_parsing", "jsonargparse", "hydra"),
}
"""Packages that read the command line on behalf of their caller."""


@contextmanager
def without_command_line() -> Iterator[None]:
    """Keep the user's code from reading the command line, which is that of `sweeps` or Ray.

    Raises:
        UserError: The code reads it, directly or with a library that parses it.
    """
    argv = sys.argv
    sys.argv = _NoWords(argv[:1])
    try:
        yield
    finally:
        sys.argv = argv


class _NoWords(list[str]):
    """`sys.argv` without the arguments of the command line of `sweeps` or Ray."""

    def __getitem__(self, index: Any) -> Any:
        """Return the item to a library; give the user's code nothing but the program's name."""
        if index != 0 and (caller := _caller()) is not None and is_own(caller.filename):
            raise problem_at(
                caller,
                "this reads the command line, which belongs to sweeps; make each option a keyword"
                " of build_trainer, and put its value in fixed or tuned",
            )
        return super().__getitem__(index)


def _caller() -> FrameSummary | None:
    """Return the frame that reads the command line, directly or with a parser."""
    outwards = reversed(traceback.extract_stack()[:-2])
    return next((frame for frame in outwards if not _is_parser(frame.filename)), None)


def _is_parser(file: str) -> bool:
    place = Path(file)
    return not is_own(file) and not _PARSERS.isdisjoint((place.stem, *place.parts))
