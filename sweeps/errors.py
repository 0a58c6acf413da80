"""The errors that `sweeps` raises on purpose, and the exit code that each one means.

Any process may raise them. This module must not know about Ray, HF or MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.amounts import counted


class SweepError(Exception):
    """A failure that `sweeps` recognises; the message says what happened and what to do."""

    exit_code = 1


class RayIsGone(SweepError):
    """Ray ended before the sweep, so Ray's client will soon end this process (2.60).

    Args:
        message: What happened.
        interrupted: Whether the user was ending the sweep.
    """

    def __init__(self, message: str, *, interrupted: bool) -> None:
        self.exit_code = 130 if interrupted else 1
        super().__init__(message)


class UserError(SweepError):
    """Something that the user can fix; printed without a traceback, with exit code 2.

    Args:
        problems: One message, or a list of all problems at once.
        where: The file, object or flag that has the problems.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str], where: str | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.where = where
        super().__init__(self._message())

    def _message(self) -> str:
        if self.where is None:
            return "\n".join(self.problems)
        if len(self.problems) == 1 and "\n" not in self.problems[0]:
            return f"{self.where}: {self.problems[0]}"
        lines = [f"{self.where} has {counted(len(self.problems), 'problem')}"]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])

    def __reduce__(self) -> tuple[type[UserError], tuple[list[str], str | None]]:
        return type(self), (self.problems, self.where)
