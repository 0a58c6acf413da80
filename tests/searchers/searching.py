"""A search without training: a searcher, the events of its trials, and their history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from sweeps import SearchSpace, SweepConfig
from sweeps.records import events as ev
from sweeps.records.event_log import decode, encode
from sweeps.records.history import History
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.records.trial import Trial
from sweeps.report import Report
from sweeps.searchers.base import Params
from sweeps.searchers.make_searcher import make_searcher
from sweeps.searchers.ray_searcher import RaySearcher

TUNED: dict[str, Any] = {
    "x": tune.uniform(0.0, 1.0),
    "learning_rate": tune.loguniform(1e-5, 1e-3),
    "layers": tune.randint(1, 9),
    "kind": tune.choice(["linear", "cosine"]),
}
FIRST = [
    {"x": 0.5, "learning_rate": 1e-4, "layers": 4, "kind": "cosine"},
    {"x": 0.1, "learning_rate": 1e-5, "layers": 8, "kind": "linear"},
]


def build(args: Any, *, height: float = 0.5) -> None: ...


class Search:
    """A searcher and its history, which is fed with events as a log keeps them.

    `factory` makes a Ray searcher, in place of the one that the config names.
    """

    def __init__(
        self,
        tuned: Mapping[str, Any] | None = None,
        *,
        space: SearchSpace | None = None,
        root: Path = Path(),
        factory: Callable[..., Any] | None = None,
        warm_start: Sequence[WarmStartTrial] = (),
        **changes: Any,
    ) -> None:
        whole: dict[str, Any] = {
            "build_trainer": build,
            "metric": "eval_score",
            "mode": "max",
            "tuned": TUNED if tuned is None else tuned,
        }
        own = {k: v for k, v in changes.items() if k in SearchSpace.__dataclass_fields__}
        settings = {k: v for k, v in changes.items() if k not in own}
        self.space = space or SearchSpace(**whole | own)
        self.config = SweepConfig(**{"num_trials": 60} | settings)
        self.notes: list[str] = []
        note = self.notes.append
        self.searcher = (
            make_searcher(self.space, self.config, root=root, warm_start=warm_start, note=note)
            if factory is None
            else RaySearcher(
                self.space,
                self.config.seed,
                factory,
                warm_start,
                where="--searcher mine:make",
                note=note,
            )
        )
        self.history = History("eval_score", self.space.mode, self.config.repeats)
        self.events: list[ev.Event] = []

    def put(self, *events: ev.Event) -> None:
        for event in events:
            self.events.append(event)
            self.history.apply(decode(encode(event)))

    def propose(self) -> Params | None:
        return self.searcher.propose(self.history)

    def start(self, of: Trial | None = None) -> Trial:
        """A new trial with the next params, or with those of another; waiting."""
        params = self.propose() if of is None else of.params
        assert params is not None, "the space is used up"
        trial, first = f"t{len(self.history.trials) + 1:03}", of and of.id
        origin: ev.Origin = "searcher" if of is None else "repeat"
        self.put(ev.TrialSuggested(trial=trial, params=params, origin=origin, of=first, seed=0))
        return self.history.trials[trial]

    def begin(self, of: Trial | None = None) -> Trial:
        trial = self.start(of)
        self.put(ev.JobStarted(trial=trial.id, attempt=1, group=1, devices=1))
        return trial

    def report(self, trial: Trial, value: float) -> None:
        number = len(trial.reports) + 1
        report = Report(
            trial=trial.id,
            number=number,
            step=number,
            max_steps=8,
            epoch=number / 8,
            metrics={"eval_score": value},
            train_s=1.0,
        )
        self.put(ev.Reported(report=report))

    def end(self, trial: Trial, failure: Any = None) -> None:
        outcome: Any = failure or "done"
        status: Any = "failed" if failure else "finished"
        self.put(
            ev.AttemptEnded(trial=trial.id, attempt=1, outcome=outcome, train_s=1.0, device_s=1.0),
            ev.TrialEnded(trial=trial.id, status=status, failure=failure),
        )

    def run(self, *values: float, failure: Any = None) -> Trial:
        """A trial from its proposal to its end."""
        trial = self.begin()
        for value in values:
            self.report(trial, value)
        self.end(trial, failure)
        return trial
