"""A follower that keeps what it is given."""

from __future__ import annotations

from sweeps.answer.answer import Answer
from sweeps.driver.followers import Follower, Stage, SweepStart
from sweeps.records.events import Event
from sweeps.report import Steps


class Recorder(Follower):
    def __init__(self) -> None:
        self.started: list[SweepStart] = []
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.states: list[Stage | Steps] = []
        self.answers: list[Answer] = []

    def begin(self, start: SweepStart) -> None:
        self.started.append(start)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def live(self, state: Stage | Steps) -> None:
        self.states.append(state)

    def end(self, answer: Answer) -> None:
        self.answers.append(answer)
