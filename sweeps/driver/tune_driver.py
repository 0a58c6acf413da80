"""Tune as a sweep drives it: its searcher, scheduler and stopper interfaces, and the `Tuner`.

Runs in the sweep process's main thread. It must not decide: it asks for trials and hands reports
over. What Tune writes is scratch; the event log has it all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.actor import ActorHandle
from ray.tune.execution import class_cache
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeps.driver.trial_relay import REPORT, TrialRelay
from sweeps.report import Report
from sweeps.secrets import SECRET_NAME

RELAY_MEMORY_BYTES = 50 * 2**20
"""What a trial actor asks for: Tune refuses to ask for nothing, and a CPU belongs to workers."""

NewTrial = Callable[[], str | None]
"""Returns the next trial's id, or None when there are enough."""


def drive(
    exchange: ActorHandle,
    *,
    new_trial: NewTrial,
    on_report: Callable[[Report], None],
    ending: threading.Event,
    trials_at_once: int,
    scratch: Path,
) -> None:
    """Run trials until there are no new ones, or `ending` is set.

    Args:
        exchange: Where the trial actors take reports.
        new_trial: Asked for each trial.
        on_report: Told each report, some of them twice.
        ending: Set when Tune must end before all trials have.
        trials_at_once: As many as there are worker groups.
        scratch: Folder for Tune's own files.
    """
    # Tune puts AWS's secrets into its actors' runtime environment, which Ray logs (ray 2.60).
    handed_on = class_cache.ENV_VARS_TO_PROPAGATE
    handed_on -= {name for name in handed_on if SECRET_NAME.search(name)}
    relay = tune.with_resources(
        tune.with_parameters(TrialRelay, exchange=exchange),
        tune.PlacementGroupFactory(
            [{"memory": RELAY_MEMORY_BYTES, "node:__internal_head__": 0.001}]
        ),
    )
    tune.Tuner(
        relay,
        tune_config=tune.TuneConfig(
            search_alg=AsksFor(new_trial),
            scheduler=ReportsTo(on_report),
            num_samples=-1,
            max_concurrent_trials=trials_at_once,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            stop=EndsWith(ending),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=-1),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()


class AsksFor(Searcher):
    """Tune's searcher interface: hands out new trials until the sweep has enough."""

    def __init__(self, new_trial: NewTrial) -> None:
        super().__init__()
        self._new_trial = new_trial

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the config of Tune's next trial: our trial id."""
        trial = self._new_trial()
        if trial is None:
            finished: str = Searcher.FINISHED
            return finished
        return {"trial": trial}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the next ask reads the history."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing to Tune's pickles, which are scratch too."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: Tune's own folder is scratch, the event log has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see `save`."""


class ReportsTo(FIFOScheduler):
    """Tune's scheduler interface: hands reports over, and always lets Tune go on.

    A stop is the exchange's to tell: Tune's own STOP only caches the trial actor (ray 2.60).
    """

    def __init__(self, on_report: Callable[[Report], None]) -> None:
        super().__init__()
        self._on_report = on_report

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it into its own folder, which is scratch

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Hand the report over and let Tune go on."""
        self._on_report(result[REPORT])
        go_on: str = TrialScheduler.CONTINUE
        return go_on


class EndsWith(tune.Stopper):
    """Ends Tune when an event is set."""

    def __init__(self, ending: threading.Event) -> None:
        self._ending = ending

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it into its own folder, which is scratch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no trial alone."""
        return False

    def stop_all(self) -> bool:
        """Tell whether Tune must end."""
        return self._ending.is_set()
