"""Tune as a sweep drives it: the `Tuner`, and its searcher and stopper interfaces.

Runs in a thread of the sweep process. It must not know what a trial is, nor decide anything: it
asks for trials and holds an actor for each. Tune's own files are scratch; the event log has
everything.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.actor import ActorHandle
from ray.tune.execution import class_cache
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeps.driver.trial_relay import TrialRelay
from sweeps.secrets import SECRET_NAME

RELAY_REQUEST = {"node:__internal_head__": 0.001}
"""What a trial actor requests: only its place on the head node, as CPUs and memory are for workers.
Tune rejects an empty request."""

NextTrial = Callable[[], tuple[str, int] | None]
"""Waits for the next trial and returns it with its attempt; None: there are no more."""


def drive(
    exchange: ActorHandle,
    *,
    next_trial: NextTrial,
    ending: threading.Event,
    trials_at_once: int,
    scratch: Path,
) -> None:
    """Run trials until there are no more, or `ending` is set.

    Args:
        exchange: Where the trial actors wait.
        next_trial: Called for each trial.
        ending: Set when Tune must end before all trials have.
        trials_at_once: The number of worker groups.
        scratch: Folder for Tune's own files.
    """
    relay = tune.with_resources(
        # Otherwise Tune would put the handle into the object store; see `Exchange.returned`.
        tune.with_parameters(TrialRelay, exchange=exchange.returned.remote(exchange)),
        tune.PlacementGroupFactory([RELAY_REQUEST]),
    )
    with _no_secrets_handed_on(), _named(scratch):
        tuner = tune.Tuner(
            relay,
            tune_config=tune.TuneConfig(
                search_alg=AsksFor(next_trial),
                scheduler=FIFOScheduler(),
                num_samples=-1,
                max_concurrent_trials=trials_at_once,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                # Prints nothing at this verbosity. Tune's own reporter clears a notebook's cell
                # (ray 2.60).
                progress_reporter=tune.ProgressReporter(),
                storage_path=str(scratch),
                stop=EndsWith(ending),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()


@contextmanager
def _no_secrets_handed_on() -> Iterator[None]:
    """Keep Tune from putting AWS's secrets into its actors' environment, which Ray logs (2.60)."""
    handed_on = class_cache.ENV_VARS_TO_PROPAGATE
    secrets = {name for name in handed_on if SECRET_NAME.search(name)}
    handed_on -= secrets
    try:
        yield
    finally:
        handed_on |= secrets


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Give the folder's name to an error of its disk: pyarrow says only that some disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(folder)) from error


class AsksFor(Searcher):
    """Tune's searcher interface: hands out trials until the sweep has no more."""

    def __init__(self, next_trial: NextTrial) -> None:
        super().__init__()
        self._next_trial = next_trial

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Return the config of Tune's next trial: our trial id and attempt."""
        following = self._next_trial()
        if following is None:
            finished: str = Searcher.FINISHED
            return finished
        trial, attempt = following
        return {"trial": trial, "attempt": attempt}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the next request reads the history."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing for Tune to pickle; its pickles are scratch, too."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: Tune's folder is scratch, and the event log has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: see `save`."""


class EndsWith(tune.Stopper):
    """Ends Tune when an event is set."""

    def __init__(self, ending: threading.Event) -> None:
        self._ending = ending

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it into its own folder, which is scratch

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: no trial is stopped on its own."""
        return False

    def stop_all(self) -> bool:
        """Tell whether Tune must end."""
        return self._ending.is_set()
