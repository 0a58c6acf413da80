"""What an earlier sweep found, as far as it fits this space: told to the searcher at its start.

Runs in the sweep process; reads the earlier sweep's folder. It must not know the searcher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sweeps.answer.results import read_results
from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.records.object_storage import open_sweep
from sweeps.records.trial import count
from sweeps.searchers.base import WarmStartTrial
from sweeps.space import domains
from sweeps.space.conditions import active_branches, branches, same
from sweeps.space.search_space import SearchSpace, fixed_values, in_json


def warm_start_trials(
    space: SearchSpace, config: SweepConfig
) -> tuple[list[WarmStartTrial], list[str]]:
    """Return what the sweep named by `warm_start` found, and a line on what does not fit.

    Told are params with a trial that ended in good order with a value, if they, with what that
    sweep fixed, lie in this space.

    Raises:
        UserError: There is no such sweep, it has not ended, or it was judged by something else.
    """
    if config.warm_start is None:
        return [], []
    folder = open_sweep(config.storage, config.warm_start)
    found = read_results(folder)
    place = f"--warm-start {config.warm_start}"
    if found.status not in ("finished", "failed"):
        raise UserError(f"{place}: {folder.id} has not ended; what it finds would still change")
    history = found.history
    if (history.metric, history.mode) != (space.metric, space.mode):
        raise UserError(
            f"{place}: judged by {history.metric} ({history.mode}), this space by"
            f" {space.metric} ({space.mode})"
        )
    known: list[WarmStartTrial] = []
    reasons: Counter[str] = Counter()
    sets = history.sets()
    for one in sets:
        value = one.mean
        if value is None or not count(one.trials, "finished", "stopped_early"):
            reasons["ended without a value"] += 1
            continue
        params, misfit = _fitted(space, {**found.record["fixed"], **one.params}, one.params)
        if misfit is None:
            known.append(WarmStartTrial(params, value))
        else:
            reasons[misfit] += 1
    what = "trials" if history.repeats == 1 else "params, by their means,"
    line = f"warm start: {len(known)} of {len(sets)} {what} of {folder.id} are told"
    lines = [f"  {times} not: {reason}" for reason, times in reasons.items()]
    return known, [line, *lines]


def _fitted(
    space: SearchSpace, values: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Return the earlier values as params of this space, or why they are none."""
    fixed = fixed_values(space)
    for key, value in params.items():
        if key in fixed and not same(in_json(fixed[key]), value):
            return {}, f"{key!r} is fixed to {fixed[key]!r} now"
        if key not in fixed and key not in space.tuned:
            return {}, f"{key!r} is neither tuned nor fixed now"
    found = active_branches(branches(space.tuned), fixed, values)
    for key, branch in found.items():
        if key not in values:
            return {}, f"{key!r} has no value there"
        if not domains.contains(branch.domain, values[key]):
            return {}, f"{key!r} is outside {domains.describe(branch.domain)}"
    return {key: values[key] for key in found}, None
