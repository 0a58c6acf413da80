"""The trials of an earlier sweep that fit this space, for the searcher to observe first.

Runs in the sweep process before Ray starts; reads the earlier sweep's folder. It must not know the
searcher.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sweeps.answer.results import read_results
from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.records.object_storage import open_sweep
from sweeps.records.sweep_record import SpaceRecord, WarmStartTrial
from sweeps.records.trial import count
from sweeps.searchers.base import untrainable
from sweeps.space import domains
from sweeps.space.arguments import HALF_PRECISION, argument_class
from sweeps.space.conditions import active_branches, branches, same
from sweeps.space.plain_values import in_json
from sweeps.space.search_space import MAX_ROWS, OWNED, SearchSpace, fixed_values

HARMLESS = (
    *("seed", "data_seed", "stream", MAX_ROWS, "per_device_eval_batch_size", "run_name", "project"),
    *("eval_accumulation_steps", "torch_empty_cache_steps", "skip_memory_metrics", "debug"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "include_num_input_tokens_seen"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "full_determinism"),
)
"""Keys that do not change what a trial is expected to score."""
HARMLESS_BEGINNINGS = ("logging_", "log_", "ddp_", "hub_", "trackio_")
"""Prefixes of further such keys."""
NO_DEFAULT = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", *HALF_PRECISION, "tf32"),
    *OWNED,
)
"""Arguments whose value is not HF's default if a space does not set them."""


def warm_start_trials(
    space: SearchSpace, config: SweepConfig
) -> tuple[list[WarmStartTrial], list[str]]:
    """Return the trials of the sweep named by `warm_start`, and lines about those that do not fit.

    Params fit if a trial with them finished or was stopped early with a value, none diverged or ran
    out of memory, and they lie in this space, taken together with what that sweep fixed. Repeats
    count as one trial with their mean.

    Raises:
        UserError: There is no such sweep, it has not ended, or its metric or mode differs.
    """
    if config.warm_start is None:
        return [], []
    folder = open_sweep(config.storage, config.warm_start)
    found = read_results(folder)
    place = f"--warm-start {config.warm_start}"
    if found.status not in ("finished", "failed"):
        raise UserError(
            f"{place}: {folder.id} has not ended, so its results may still change; wait for it, or"
            " resume it if it was interrupted"
        )
    history = found.history
    if (history.metric, history.mode) != (space.metric, space.mode):
        raise UserError(
            f"{place}: its metric is {history.metric!r} ({history.mode}), but this space's metric"
            f" is {space.metric!r} ({space.mode})"
        )
    if config.searcher == "random":
        return [], [f"{place}: no effect, because random search does not learn from trials"]
    trials: list[WarmStartTrial] = []
    reasons: Counter[str] = Counter()
    sets = history.sets()
    for one in sets:
        value = one.mean
        if value is None or not count(one.trials, "finished", "stopped_early"):
            reasons["no value"] += 1
            continue
        if untrainable(one):
            reasons["diverged or ran out of memory"] += 1
            continue
        params, misfit = _fitted(space, {**found.record.space.fixed, **one.params}, one.params)
        if misfit is None:
            trials.append(WarmStartTrial(params, value))
        else:
            reasons[misfit] += 1
    what = "trials" if history.repeats == 1 else "params sets"
    line = f"warm start: the searcher observes {len(trials)} of {len(sets)} {what} of {folder.id}"
    lines = [f"  {times} left out: {reason}" for reason, times in reasons.items()]
    if trials and (otherwise := _fixed_otherwise(space, found.record.space)):
        lines.append(f"  their values may not be comparable: {'; '.join(otherwise)}")
    return trials, [line, *lines]


def _fixed_otherwise(space: SearchSpace, earlier: SpaceRecord) -> list[str]:
    """Return what neither sweep tunes but differs between them: epochs, rows, the model."""
    defaults = _defaults(space)
    was = {**defaults, **earlier.fields, **earlier.fixed}
    now = {**defaults, **in_json({**space.builder.values, **space.fixed})}
    keys = (was.keys() & now.keys()) - space.tuned.keys() - earlier.tuned.keys()
    return [
        f"{key} was {was[key]!r}, is now {now[key]!r}"
        for key in sorted(keys.difference(HARMLESS))
        if not key.startswith(HARMLESS_BEGINNINGS) and not same(was[key], now[key])
    ]


def _defaults(space: SearchSpace) -> dict[str, Any]:
    """Return HF's defaults of the arguments that a space may leave out; a script has its own."""
    if space.builder.makes_arguments:
        return {}
    return {
        field.name: in_json(field.default)
        for field in dataclasses.fields(argument_class(space.build_trainer))
        if field.default is not dataclasses.MISSING and field.name not in NO_DEFAULT
    }


def _fitted(
    space: SearchSpace, values: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Return the earlier values as params of this space, or why they do not fit."""
    fixed = fixed_values(space)
    for key, value in params.items():
        if key in fixed and not same(in_json(fixed[key]), value):
            return {}, f"{key!r} is now fixed to {fixed[key]!r}"
        if key not in fixed and key not in space.tuned:
            return {}, f"{key!r} is no longer tuned or fixed"
    found = active_branches(branches(space.tuned), fixed, values)
    for key, branch in found.items():
        if key not in values:
            return {}, f"{key!r} has no value in that sweep"
        if not domains.contains(branch.domain, values[key]):
            return {}, f"{key!r} is outside {domains.describe(branch.domain)}"
    return {key: values[key] for key in found}, None
