"""All that can be said against a search space before anything starts.

Runs in the sweep process. It must not know the cluster, nor read any data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search.sample import Domain

from sweeps.errors import UserError
from sweeps.space import domains
from sweeps.space.search_space import (
    MAX_ROWS,
    OWNED,
    TOTAL_BATCH,
    SearchSpace,
    builder_keywords,
    is_dict_key,
    nearest,
    valid_keys,
)


def check_space(space: SearchSpace, argument_fields: Mapping[str, bool], where: str) -> None:
    """Check a space's keys, domains and first params.

    Args:
        space: The space.
        argument_fields: Fields of its `TrainingArguments` class: name to whether it holds a dict.
        where: Its file and name, for the message.

    Raises:
        UserError: With every problem found.
    """
    if not callable(space.build_trainer):
        raise UserError(f"build_trainer = {space.build_trainer!r}: must be callable", where)
    valid = valid_keys(space, argument_fields)
    problems = [
        *_mode_problems(space),
        *_key_problems("tuned", space.tuned, valid, argument_fields),
        *_key_problems("fixed", space.fixed, valid, argument_fields),
        *_clash_problems(space, argument_fields),
        *_tuned_problems(space),
    ]
    for key, value in space.fixed.items():
        if isinstance(value, Domain):
            problems.append(
                f"fixed[{key!r}] = {domains.describe(value)}: a domain; it belongs in tuned"
            )
    if not problems:
        problems = _first_params_problems(space)
    if problems:
        raise UserError(problems, where)


def _mode_problems(space: SearchSpace) -> list[str]:
    problems = []
    if space.mode not in ("max", "min"):
        problems.append(f"mode = {space.mode!r}: must be 'max' or 'min'")
    if not isinstance(space.evals_per_trial, int) or space.evals_per_trial < 1:
        problems.append(f"evals_per_trial = {space.evals_per_trial!r}: must be a whole number >= 1")
    if not space.tuned:
        problems.append("tuned is empty: there is nothing to search")
    return problems


def _key_problems(
    part: str, keys: Mapping[str, Any], valid: Sequence[str], argument_fields: Mapping[str, bool]
) -> list[str]:
    problems = []
    for key in keys:
        if key in OWNED:
            problems.append(f"{part}[{key!r}]: {OWNED[key]}; remove it")
        elif part == "tuned" and key == MAX_ROWS:
            problems.append(
                f"tuned[{key!r}]: belongs in fixed; it does not change the optimisation"
            )
        elif key in valid or is_dict_key(key, argument_fields):
            continue
        else:
            problems.append(
                f"{part}[{key!r}]: no such TrainingArguments field"
                f" or builder keyword{nearest(key, valid)}"
            )
    return problems


def _clash_problems(space: SearchSpace, argument_fields: Mapping[str, bool]) -> list[str]:
    problems = [
        f"build_trainer: its keyword {name!r} is also a TrainingArguments field; rename it"
        for name in sorted(builder_keywords(space.build_trainer) & set(argument_fields))
    ]
    both = sorted(set(space.tuned) & set(space.fixed))
    problems += [f"{key!r} is in tuned and in fixed; keep one" for key in both]
    keys = {*space.tuned, *space.fixed}
    if TOTAL_BATCH in keys:
        for other in ("per_device_train_batch_size", "gradient_accumulation_steps"):
            if other in keys:
                problems.append(f"{other!r} follows from {TOTAL_BATCH!r}; keep one")
    elif MAX_ROWS in keys:
        problems.append(f"{MAX_ROWS!r} needs {TOTAL_BATCH!r} in tuned or fixed")
    return problems


def _tuned_problems(space: SearchSpace) -> list[str]:
    problems = []
    for key, domain in space.tuned.items():
        if not isinstance(domain, Domain):
            problems.append(
                f"tuned[{key!r}] = {domain!r}: not a Tune domain;"
                " a value equal in all trials belongs in fixed"
            )
        elif reason := domains.problem_with(domain):
            problems.append(f"tuned[{key!r}]: {reason}")
    return problems


def _first_params_problems(space: SearchSpace) -> list[str]:
    problems = []
    for i, params in enumerate(space.first_params):
        if missing := sorted(set(space.tuned) - set(params)):
            problems.append(f"first_params[{i}]: no value for {', '.join(map(repr, missing))}")
        if extra := sorted(set(params) - set(space.tuned)):
            problems.append(f"first_params[{i}]: {', '.join(map(repr, extra))} is not tuned")
        for key, value in params.items():
            domain = space.tuned.get(key)
            if domain is not None and not domains.contains(domain, value):
                problems.append(
                    f"first_params[{i}][{key!r}] = {value!r}: outside {domains.describe(domain)}"
                )
    return problems
