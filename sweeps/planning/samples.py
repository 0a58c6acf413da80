"""The first params of a sweep, and the arguments that result from params.

Runs in the sweep process before Ray starts. It must not know about the cluster: arguments are built
for the CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search.sample import Categorical

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.records.events import TrialSuggested
from sweeps.records.history import History
from sweeps.searchers.base import WarmStartTrial
from sweeps.searchers.make_searcher import make_searcher
from sweeps.space.arguments import (
    NEVER,
    Devices,
    argument_class,
    training_arguments,
    trial_seed,
    trial_values,
    tuned_fields,
)
from sweeps.space.conditions import branches
from sweeps.space.ranges import range_of
from sweeps.space.search_space import OWNED, SearchSpace

SAMPLES = 5


def sample_params(
    space: SearchSpace,
    config: SweepConfig,
    root: Path,
    warm_start: Sequence[WarmStartTrial] = (),
) -> list[dict[str, Any]]:
    """Return the first params that the searcher proposes before any result, at most five.

    Args:
        space: The search space.
        config: For the searcher, the seed and the number of trials.
        root: Folder that the space's imports start from.
        warm_start: Trials of an earlier sweep.

    Raises:
        UserError: A constraint raises, or returns something other than True or False, or the
            searcher does not work for this sweep.
    """
    history = History(space.metric, space.mode)
    searcher = make_searcher(space, config, root=root, warm_start=warm_start)
    found: list[dict[str, Any]] = []
    while len(found) < min(SAMPLES, config.params_sets):
        params = searcher.propose(history)
        if params is None:
            break
        found.append(params)
        history.apply(TrialSuggested(trial=f"t{len(found):03}", params=params, origin="searcher"))
    return found


def built_arguments(
    space: SearchSpace, config: SweepConfig, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a trial with these params, without those that have their default.

    Values that a script sets itself are left out: the dry run has seen one value, and a flag may
    set another.

    Raises:
        Exception: Any error of the argument class.
    """
    devices = Devices(workers=config.workers_per_trial, gpu=False, bf16=False)
    args = training_arguments(
        space,
        params,
        devices=devices,
        output_dir=config.storage_folder / "SWEEP" / "checkpoints" / "TRIAL",
        seed=trial_seed(space, params, config.seed),
    )
    default = argument_class(space.build_trainer)(
        output_dir=args.output_dir,
        use_cpu=True,
        eval_strategy="steps",
        eval_steps=NEVER,
        run_name=args.run_name,
    )
    of_space = tuned_fields(space, {**space.fixed, **params})
    hidden = {*OWNED, *(space.builder.argument_values.keys() - of_space)}
    return {
        field.name: _plain(getattr(args, field.name))
        for field in dataclasses.fields(args)
        if field.name not in hidden
        and getattr(args, field.name, None) != getattr(default, field.name, None)
    }


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)  # HF's enums


def argument_problems(space: SearchSpace, config: SweepConfig, root: Path) -> list[str]:
    """Return what the argument class itself rejects among samples and the ends of each domain.

    Raises:
        UserError: See `sample_params`.
    """
    samples = sample_params(space, config, root)
    if not samples:
        return ["the searcher proposes no params; check that some params satisfy all constraints"]
    problems: dict[str, str] = {}
    for params in samples:
        if error := _refused(space, config, params):
            problems.setdefault(error, f"params {params}: {error}")
    for key, value in ends(space):
        if error := _refused(space, config, {**samples[0], key: value}):
            problems.setdefault(error, f"tuned[{key!r}] = {value!r}: {error}")
    return list(problems.values())


def ends(space: SearchSpace) -> Iterator[tuple[str, Any]]:
    """Yield each tuned argument with each of its choices, and with both ends of each range."""
    for branch in branches(space.tuned):
        if not trial_values(space, {branch.key: None})[0].keys() >= {branch.key}:
            continue  # a keyword of the builder
        found = range_of(branch.domain)
        if isinstance(branch.domain, Categorical):
            yield from ((branch.key, choice) for choice in branch.domain.categories)
        elif found is not None:
            last = found.upper - 1 if found.name.endswith("randint") and not found.quantum else None
            yield from ((branch.key, end) for end in (found.lower, last or found.upper))


def _refused(space: SearchSpace, config: SweepConfig, params: Mapping[str, Any]) -> str | None:
    try:
        built_arguments(space, config, params)
    except UserError as error:
        return "; ".join(error.problems)
    except Exception as error:
        name = argument_class(space.build_trainer).__name__
        return f"{name} rejects it: {str(error).splitlines()[0] if str(error) else repr(error)}"
    return None
