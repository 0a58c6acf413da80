"""A checked sweep that has not begun: what `plan` shows and the sweep process runs.

Made in the sweep process before Ray starts. It must not know how it was asked for: new, resumed or
repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sweeps.config import SweepConfig
from sweeps.records.provenance import GitState
from sweeps.records.sweep_record import Rerun
from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.make_scheduler import scheduler_maker
from sweeps.searchers.base import WarmStartTrial
from sweeps.space.loading import LoadedSpace
from sweeps.space.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked sweep that has not begun."""

    loaded: LoadedSpace
    """The space as its file defines it, and its code."""
    assignments: Sequence[str]
    """`KEY=VALUE` texts that were laid over it."""
    base: Path
    """Folder that relative paths start from."""
    space: SearchSpace
    """The space as it will run."""
    config: SweepConfig
    warm_start_trials: Sequence[WarmStartTrial]
    """Trials of an earlier sweep that the searcher observes first."""
    lines: list[str]
    """What was changed on the way, for the user."""
    command: str
    """How to ask for the same again."""
    rerun: Rerun | None = None
    """The recorded trials that are run again."""
    git: GitState | None = None
    """The recorded commit of code that is run again; None: that of the space's file."""

    @property
    def tracking_uri(self) -> str:
        """The MLflow store."""
        return self.config.mlflow_store

    @cached_property
    def new_scheduler(self) -> Callable[[], Scheduler]:
        """Makes the sweep's scheduler as it is before the first report."""
        return scheduler_maker(self.space, self.config, root=self.loaded.root)
