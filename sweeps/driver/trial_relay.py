"""The thin Trainable that represents a trial in Tune and waits for the trial's end.

Runs in a trial actor. It must not know what a trial reports, nor any other trial.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.tune import Trainable


class TrialRelay(Trainable):
    """Holds one of Tune's slots until the exchange closes the trial, then says `done`."""

    def setup(self, config: dict[str, Any], exchange: ActorHandle | None = None) -> None:
        """Take on a trial whose job the sweep process has submitted."""
        if exchange is not None:
            self._exchange = exchange
        self._trial: str = config["trial"]
        self._attempt: int = config["attempt"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on the next trial in the same actor."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait until the trial has left its groups."""
        # If the error of a lost exchange left this method, it would look like this actor's death.
        with suppress(ray.exceptions.RayError):
            ray.get(self._exchange.trial_closed.remote(self._trial, self._attempt))
        return {"done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the event log has everything."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing: see `save_checkpoint`."""
