"""A checked sweep that has not started: what `plan` shows and the sweep process runs.

Created in the sweep process before Ray starts. It must not know whether the sweep is new, resumed
or repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sweeps.config import SweepConfig
from sweeps.records.provenance import GitState
from sweeps.records.sweep_record import Rerun, WarmStartTrial
from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.make_scheduler import scheduler_maker
from sweeps.space.loading import LoadedSpace
from sweeps.space.search_space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked sweep that has not begun."""

    loaded: LoadedSpace
    """The space as its file defines it, and its code."""
    assignments: Sequence[str]
    """`KEY=VALUE` strings that override it."""
    base: Path
    """The folder that relative paths start from."""
    space: SearchSpace
    """The space as it will run."""
    config: SweepConfig
    warm_start_trials: Sequence[WarmStartTrial]
    """Trials of an earlier sweep that the searcher observes first."""
    lines: list[str]
    """Lines for the user about what was changed."""
    command: str
    """The command that requests the same sweep again."""
    rerun: Rerun | None = None
    """The recorded trials that are run again."""
    git: GitState | None = None
    """The recorded commit of code that is run again; None: the commit of the space's file."""

    @property
    def tracking_uri(self) -> str:
        """The MLflow store."""
        return self.config.mlflow_store

    @cached_property
    def new_scheduler(self) -> Callable[[], Scheduler]:
        """Creates the sweep's scheduler in its state before the first report."""
        return scheduler_maker(self.space, self.config, root=self.loaded.root)
