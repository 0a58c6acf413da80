"""What Tune knows about the trials: those that it received, and those whose actors may end.

Plain state inside the exchange. It must not wait for anything or know what a trial does.
"""

from __future__ import annotations

from collections import deque


class TuneSide:
    """The answers to Tune's requests, and the attempts after which trial actors may end."""

    def __init__(self) -> None:
        self._answers: deque[tuple[str, int] | None] = deque()
        """Answers to Tune's requests: a trial and its attempt, or None for no more trials."""
        self._closed: dict[str, int] = {}
        """The last attempt of each trial after which its actor may end; 0: none."""
        self._over = False

    def enter(self, trial: str) -> None:
        """Register a trial that runs or will run."""
        self._closed.setdefault(trial, 0)

    def hand_out(self, trial: str, attempt: int) -> None:
        """Answer a request with a trial."""
        self._answers.append((trial, attempt))

    def no_more(self) -> None:
        """Answer a request: there are no more trials."""
        self._answers.append(None)

    def close(self, trial: str, attempt: int) -> None:
        """Let a trial's actor end after an attempt, unless a later attempt was named before."""
        self._closed[trial] = max(attempt, self._closed[trial])

    def end(self) -> None:
        """Hand out no more trials, and let all actors end."""
        self._over = True

    def answer(self) -> list[tuple[str, int] | None]:
        """Take the next answer to a request, in a list, which is empty if there is none yet."""
        if self._over:
            return [None]
        return [self._answers.popleft()] if self._answers else []

    def may_go(self, trial: str, attempt: int) -> bool:
        """Tell whether the trial actor that represents this attempt may end."""
        return self._closed[trial] >= attempt or self._over
