"""The first params of a sweep, and the arguments that result from params.

Runs in the sweep process before Ray starts. It must not know about the cluster: arguments are built
for the CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.planning.optimizer_checks import optimizer_problems, without_effect
from sweeps.records.events import TrialSuggested
from sweeps.records.history import History
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.searchers.make_searcher import make_searcher
from sweeps.space import domains
from sweeps.space.arguments import (
    NEVER,
    Devices,
    argument_class,
    argument_values,
    fields_of,
    nested,
    trial_seed,
    trial_values,
    tuned_fields,
)
from sweeps.space.conditions import active_branches, branches
from sweeps.space.search_space import OWNED, SearchSpace, fixed_values

if TYPE_CHECKING:
    from sweeps.planning.optimizer_checks import Make

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
        history.apply(
            TrialSuggested(
                trial=f"t{len(found):03}", params=params, origin="searcher", seed=config.seed
            )
        )
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
    args = argument_class(space.build_trainer)(**_given(space, config, params))
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


def _given(space: SearchSpace, config: SweepConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a trial's argument class is called with."""
    values = argument_values(
        space,
        params,
        devices=Devices(workers=config.workers_per_trial, gpu=False, bf16=False),
        output_dir=config.storage_folder / "SWEEP" / "checkpoints" / "TRIAL",
        seed=trial_seed(space, params, config.seed),
    )
    return nested(values, space.builder.argument_values)


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)  # HF's enums


def argument_problems(space: SearchSpace, config: SweepConfig, root: Path) -> list[str]:
    """Return what HF rejects among samples and the ends of each domain.

    Raises:
        UserError: See `sample_params`.
    """
    samples = sample_params(space, config, root)
    if not samples:
        return ["the searcher proposes no params; check that some params satisfy all constraints"]
    problems: dict[str, str] = {}
    for params in samples:
        _, error = _tried(space, config, params)
        if error:
            problems.setdefault(error, f"params {params}: {error}")
    for key, values in ends(space).items():
        found, refused = [], False
        for value in values:
            built, error = _tried(space, config, _changed(space, samples[0], key, value))
            found.append(built)
            if error:
                refused = True
                problems.setdefault(error, f"tuned[{key!r}] = {value!r}: {error}")
        if len(values) > 1 and not refused and all(built == found[0] for built in found):
            problems |= _replaced(space, config, samples[0], key, values)
    if not problems:
        problems |= {
            text: text for text in optimizer_problems(space, samples, _make(space, config))
        }
    return list(problems.values())


def optimizer_warnings(space: SearchSpace, config: SweepConfig, root: Path) -> Iterator[str]:
    """Yield a warning for each tuned key of the optimizer or its schedule without effect."""
    yield from without_effect(space, sample_params(space, config, root), _make(space, config))


def _make(space: SearchSpace, config: SweepConfig) -> Make:
    return lambda params: argument_class(space.build_trainer)(**_given(space, config, params))


def ends(space: SearchSpace) -> dict[str, list[Any]]:
    """Return the choices of each tuned argument, and both ends of each of its ranges."""
    found: dict[str, list[Any]] = {}
    for branch in branches(space.tuned):
        if not trial_values(space, {branch.key: None})[0].keys() >= {branch.key}:
            continue  # a keyword of the builder
        if values := domains.ends(branch.domain):
            found.setdefault(branch.key, []).extend(values)
    return found


def _changed(space: SearchSpace, params: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return params with another value of a key, without those that are then inactive."""
    changed = {**params, key: value}
    active = active_branches(branches(space.tuned), fixed_values(space), changed)
    return {name: each for name, each in changed.items() if name in active or name == key}


def _tried(
    space: SearchSpace, config: SweepConfig, params: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Return the arguments of a trial, or why their class rejects them."""
    try:
        return built_arguments(space, config, params), None
    except UserError as error:
        return {}, "; ".join(error.problems)
    except Exception as error:
        name = argument_class(space.build_trainer).__name__
        text = str(error).splitlines()[0] if str(error) else repr(error)
        return {}, f"{name} rejects it: {text}"


def _replaced(
    space: SearchSpace,
    config: SweepConfig,
    params: Mapping[str, Any],
    key: str,
    ends: Sequence[Any],
) -> dict[str, str]:
    """Return the problem with a tuned argument whose values all give the same arguments.

    Empty if no other argument explains it: some arguments have no effect on the CPU.
    """
    make: Any = argument_class(space.build_trainer)
    own = {*space.builder.argument_values, *space.fixed, *params} - space.builder.keywords
    others = {field for other in own for field in fields_of(other)} - {*fields_of(key)}
    given = [_given(space, config, _changed(space, params, key, end)) for end in ends]
    names = [field.name for field in dataclasses.fields(make)]
    for other in sorted(others):
        without = [{name: v for name, v in one.items() if name != other} for one in given]
        try:
            made = [make(**values) for values in without]
        except Exception:  # this class requires it
            continue
        one, *more = ([getattr(args, name, None) for name in names] for args in made)
        if any(each != one for each in more):
            return {key: f"tuned[{key!r}] has no effect, because {other} overrides it; keep one"}
    return {}
