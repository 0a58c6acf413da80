"""The decisions on the reports of each trial, for ranks that wait for them.

Plain state inside the exchange. It must not know how a decision is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeps.workers.job import Reply


@dataclass
class _Trial:
    reported: set[int] = field(default_factory=set)
    """Numbers of the reports that were passed on to the sweep process."""
    answers: dict[int, Reply] = field(default_factory=dict)
    """The decision on each report that has one, by number."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is a new answer."""


class Replies:
    """The reports of all trials that were passed on, and the answers to them."""

    def __init__(self) -> None:
        self._trials: dict[str, _Trial] = {}

    def enter(self, trial: str, answers: Mapping[int, Reply]) -> bool:
        """Take in the decisions on reports that a trial may repeat; return whether it is known."""
        known = trial in self._trials
        own = self._trials.setdefault(trial, _Trial())
        own.answers |= answers
        own.answered.set()
        return known

    def is_first(self, trial: str, number: int) -> bool:
        """Tell whether a report must be passed on: the trial has not made it before."""
        own = self._trials[trial]
        if number in own.reported or number in own.answers:
            return False
        own.reported.add(number)
        return True

    def decide(self, trial: str, number: int, answer: Reply) -> None:
        """Answer a report."""
        self._trials[trial].answers[number] = answer
        self._trials[trial].answered.set()

    async def answer(self, trial: str, number: int) -> Reply:
        """Return the decision on a report, once there is one."""
        own = self._trials[trial]
        while (answer := own.answers.get(number)) is None:
            own.answered.clear()
            await own.answered.wait()
        return answer
