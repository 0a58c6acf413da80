"""The searchers by their names on the command line.

Runs in the sweep process. It must not know what a searcher does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.naming import unknown
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.searchers.base import Searcher
from sweeps.searchers.optuna_searcher import OptunaSearcher
from sweeps.searchers.random_searcher import RandomSearcher
from sweeps.searchers.ray_searcher import RaySearcher
from sweeps.space.loading import load_factory
from sweeps.space.search_space import SearchSpace

logger = logging.getLogger("sweeps")

SEARCHERS: Mapping[str, Callable[[SearchSpace, int, Sequence[WarmStartTrial]], Searcher]] = {
    "optuna": OptunaSearcher,
    "random": RandomSearcher,
}
"""Called with the space, the seed and the warm-start trials."""


def make_searcher(
    space: SearchSpace,
    config: SweepConfig,
    *,
    root: Path,
    warm_start: Sequence[WarmStartTrial] = (),
    note: Callable[[str], None] = logger.warning,
) -> Searcher:
    """Return the searcher that `config.searcher` names.

    Args:
        space: The search space.
        config: The config, for the name of the searcher and the seed.
        root: Folder that the space's imports start from; `module:factory` is looked up there first.
        warm_start: Trials of an earlier sweep, which the searcher observes first.
        note: Called with a line for the user.

    Raises:
        UserError: There is no such searcher, or it does not work for this sweep.
    """
    name = config.searcher
    where = f"searcher = {name!r}"
    if name in SEARCHERS:
        return SEARCHERS[name](space, config.seed, warm_start)
    if ":" not in name:
        known = f"{', '.join(SEARCHERS)} or module:factory"
        raise UserError(unknown("searcher", name, list(SEARCHERS), known=known), where)
    factory = load_factory(name, root, "searcher")
    return RaySearcher(space, config.seed, factory, warm_start, where=where, note=note)
