"""A scheduler fed by hand, with the decider of the sweep process around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from sweeps import SearchSpace, SweepConfig
from sweeps.driver.decider import Decider
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.report import Mode, Report
from sweeps.schedulers.make_scheduler import scheduler_maker

STEPS = 1000
ROOT = Path(__file__).parents[2]


def build(args: Any) -> Any:
    raise AssertionError("nothing is trained here")


def space_of(mode: Mode, evaluations: int = 8) -> SearchSpace:
    return SearchSpace(
        build_trainer=build,
        metric="eval_score",
        mode=mode,
        tuned={"learning_rate": tune.uniform(0.0, 1.0)},
        evals_per_trial=evaluations,
    )


class Fed:
    """A decider and its history; values are said so that more is better, whatever the mode."""

    def __init__(self, mode: Mode = "max", **config: Any) -> None:
        self.config = SweepConfig(**config)
        self.history = History("eval_score", mode)
        scheduler = scheduler_maker(space_of(mode), self.config, root=ROOT)()
        self.decider = Decider(self.config, self.history, scheduler)
        self.sign = 1 if mode == "max" else -1

    def decide(
        self,
        trial: str,
        progress: float,
        value: float,
        *,
        out_of_time: bool = False,
        **changes: Any,
    ) -> ev.Decided:
        """The decision on a trial's next report, as the sweep process takes it."""
        if trial not in self.history.trials:
            self.history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0))
        whole: dict[str, Any] = {
            "trial": trial,
            "number": len(self.history.trials[trial].reports) + 1,
            "step": round(progress * STEPS),
            "max_steps": STEPS,
            "epoch": progress,
            "metrics": {"eval_score": value * self.sign},
            "train_s": 1.0,
        }
        return self.take(Report(**whole | changes), out_of_time)

    def take(self, report: Report, out_of_time: bool = False) -> ev.Decided:
        self.history.apply(ev.Reported(report=report))
        decided = self.decider.decide(report, out_of_time=out_of_time)
        assert (decided.trial, decided.number) == (report.trial, report.number)
        self.history.apply(decided)
        return decided

    def stops(self, trial: str, progress: float, value: float, **changes: Any) -> bool:
        return self.decide(trial, progress, value, **changes).decision == "stop"
