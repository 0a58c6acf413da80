"""Creates the scheduler that a sweep's config names: a built-in one, or the result of a factory.

Runs in the sweep process, in `plan`, and in `report` for the forecast. It must not know what a
scheduler decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ray.tune.schedulers import TrialScheduler

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.naming import unknown
from sweeps.schedulers.asha import ASHA
from sweeps.schedulers.base import Scheduler
from sweeps.schedulers.fifo import FIFO
from sweeps.schedulers.median import Median
from sweeps.schedulers.ray_scheduler import RayScheduler
from sweeps.space.loading import load_factory
from sweeps.space.search_space import SearchSpace

SCHEDULERS: Mapping[str, Callable[[SearchSpace, SweepConfig], Scheduler]] = {
    "asha": ASHA,
    "median": Median,
    "fifo": FIFO,
}
"""Schedulers by their names on the command line."""
METHODS = ("rungs", "on_report", "resume_next")
"""Methods of a `Scheduler`."""


def scheduler_maker(
    space: SearchSpace, config: SweepConfig, *, root: Path
) -> Callable[[], Scheduler]:
    """Return a function that creates a new scheduler, the one that `config.scheduler` names.

    `module:factory` is called with the keyword arguments `metric` and `mode`, and returns a Ray
    scheduler or a `Scheduler`.

    Args:
        space: The search space.
        config: The config, for the name of the scheduler and its rungs.
        root: Folder that the space's imports start from; `module:factory` is looked up there first.

    Raises:
        UserError: There is no such scheduler. The returned function raises it, too, if the
            scheduler does not work for this sweep.
    """
    name = config.scheduler
    where = f"scheduler = {name!r}"
    if name in SCHEDULERS:
        return partial(SCHEDULERS[name], space, config)
    if ":" not in name:
        known = f"{', '.join(SCHEDULERS)} or module:factory"
        raise UserError(unknown("scheduler", name, list(SCHEDULERS), known=known), where)
    factory = load_factory(name, root, "scheduler")

    def make() -> Scheduler:
        try:
            made = factory(metric=space.metric, mode=space.mode)
        except Exception as error:
            call = f"calling it with metric={space.metric!r} and mode={space.mode!r}"
            raise UserError(f"{call} raised {type(error).__name__}: {error}", where) from error
        if isinstance(made, TrialScheduler):
            return RayScheduler(made, space, config.seed, where)
        missing = [method for method in METHODS if not hasattr(made, method)]
        if missing:
            raise UserError(
                f"returned {type(made).__name__}, which lacks {', '.join(missing)}; return a Ray"
                " scheduler, or an object with the methods of sweeps.schedulers.base.Scheduler",
                where,
            )
        scheduler: Scheduler = made
        return scheduler

    return make
