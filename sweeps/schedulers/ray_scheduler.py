"""Any Ray scheduler that only continues or stops trials, as a scheduler of a sweep.

Runs in the sweep process and in `plan`. It must not know about any Ray scheduler: what a scheduler
needs beyond reports shows when it asks for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, NoReturn

import numpy as np
from ray.tune.schedulers import TrialScheduler

from sweeps.errors import UserError
from sweeps.records.events import Decision
from sweeps.report import SLACK, Report
from sweeps.space.search_space import SearchSpace

DECISIONS: dict[str, Decision] = {
    TrialScheduler.CONTINUE: "continue",
    TrialScheduler.STOP: "stop",
}


class _Unsupported(Exception):
    """A Ray scheduler needs something that a sweep cannot provide."""


class _Controller:
    """Replaces Tune's controller: no trial is waiting, and nothing else works."""

    def get_live_trials(self) -> list[Any]:
        """Return the trials that run or wait for a slot; `MedianStoppingRule` asks for them."""
        return []

    def __getattr__(self, name: str) -> NoReturn:
        raise _Unsupported(f"it uses Tune's controller ({name}), which a sweep does not have")


@dataclass(frozen=True)
class _Trial:
    """Replaces Tune's trial; has only an id."""

    trial_id: str

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python asks for these, for example to copy or print it
            raise AttributeError(name)
        raise _Unsupported(f"it uses a trial's {name}, but here a trial has only a trial_id")


class _Result(dict[str, float]):
    """A result with the few keys that every report has."""

    def __missing__(self, key: str) -> NoReturn:
        known = ", ".join(map(repr, self))
        raise _Unsupported(f"it reads {key!r} from a result, which contains only {known}")

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self.__missing__(str(key))

    def get(self, key: str, default: Any = None) -> float:
        return self[key]


class RayScheduler:
    """Adapts a Ray Tune scheduler that uses `progress` or `training_iteration` as its time.

    `progress` is in (0, 1]; `training_iteration` is the number of the evaluation, from 1.

    Args:
        scheduler: A new scheduler that has not decided anything yet.
        space: The search space, for the metric, its mode, and the evaluations of a trial.
        seed: Seed for the scheduler's draws from the global generators of Python and numpy.
        where: What the user passed, for messages.

    Raises:
        UserError: The scheduler uses another metric or mode.
    """

    def __init__(
        self, scheduler: TrialScheduler, space: SearchSpace, seed: int, where: str
    ) -> None:
        self._scheduler = scheduler
        self._metric = space.metric
        self._evaluations = space.evals_per_trial
        self._seed = seed
        self._where = where
        self._added: set[str] = set()
        scheduler.set_search_properties(space.metric, space.mode)
        # A scheduler has no public mode; all of Ray's that have one keep it here (2.60).
        mode = getattr(scheduler, "_mode", space.mode)
        problems = [
            f"the scheduler's {name} is {own!r}, but the space's {name} is {ours!r}; pass on the"
            f" {name} that the factory receives"
            for name, own, ours in (
                ("metric", scheduler.metric, space.metric),
                ("mode", mode, space.mode),
            )
            if own != ours
        ]
        if problems:
            raise UserError(problems, where)

    def rungs(self) -> tuple[float, ...]:
        """Return the progress of each evaluation but the last: a trial may stop at any of them."""
        return tuple(number / self._evaluations for number in range(1, self._evaluations))

    def on_report(self, report: Report) -> Decision:
        """Return the Ray scheduler's decision.

        Raises:
            UserError: The scheduler needs more than a report, or answers anything but continue or
                stop.
        """
        try:
            answer = self._ask(report)
            if answer not in DECISIONS:
                raise _Unsupported("it pauses trials, and sweeps cannot tell when to resume them")
        except _Unsupported as problem:
            name = type(self._scheduler).__name__
            raise UserError(f"{name} is not supported: {problem}", self._where) from None
        return DECISIONS[answer]

    def _ask(self, report: Report) -> str:
        trial, result = _Trial(report.trial), _Result()
        result["progress"] = min(1.0, report.progress + SLACK)  # rungs may be rounded up
        result["training_iteration"] = report.number
        result[self._metric] = report.metrics[self._metric]
        with _seeded(f"{self._seed} {report.trial} {report.number}"):
            if report.trial not in self._added:
                self._added.add(report.trial)
                self._scheduler.on_trial_add(_Controller(), trial)
            if report.is_last:  # as in Tune
                self._scheduler.on_trial_complete(_Controller(), trial, result)
                return str(TrialScheduler.CONTINUE)
            return str(self._scheduler.on_trial_result(_Controller(), trial, result))

    def resume_next(self) -> str | None:
        """Return None: no trial is paused."""
        return None


_generators = Lock()
"""Held while the global generators are seeded: a forecast and a replay may run in two threads."""


@contextmanager
def _seeded(seed: str) -> Iterator[None]:
    """Seed the global generators for the context: Ray's ASHA draws a bracket with numpy."""
    with _generators:
        generator, numpy_state = random.Random(seed), np.random.get_state()
        state = random.getstate()
        random.setstate(generator.getstate())
        np.random.seed(generator.getrandbits(32))
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)
