"""The thin Trainable that stands for a trial in Tune: relays its reports.

Runs in a trial actor. It must not know what a report means, nor any other trial.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.actor import ActorHandle
from ray.tune import Trainable

REPORT = "report"
"""Key of the report in a Tune result."""


class TrialRelay(Trainable):
    """Relays reports until the exchange closes the trial, then says `done`.

    No report carries `done`: Tune would not show it to the scheduler. A new actor for a trial that
    runs already finds its job by the trial id.
    """

    def setup(self, config: dict[str, Any], exchange: ActorHandle | None = None) -> None:
        """Take a trial, whose job the sweep process has put in."""
        if exchange is not None:
            self._exchange = exchange
        self._trial: str = config["trial"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this same actor."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Return the next report, or `done`."""
        try:
            report = ray.get(self._exchange.next_report.remote(self._trial))
        except ray.exceptions.RayError:
            # Out of here it would pass for the death of this actor. The sweep process sees to it.
            return {"done": True}
        return {"done": True} if report is None else {REPORT: report}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the event log has it all."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing: see `save_checkpoint`."""
