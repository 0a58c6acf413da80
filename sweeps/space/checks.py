"""All that can be said against a search space before anything starts.

Runs in the sweep process. It must not know the cluster, nor read any data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.errors import UserError
from sweeps.space.arguments import OPTIM_ARGS
from sweeps.space.domain_checks import tuned_problems
from sweeps.space.dropped import unknown
from sweeps.space.param_checks import constraint_problems, first_params_problems
from sweeps.space.search_space import (
    MAX_ROWS,
    OWNED,
    STREAM,
    TOTAL_BATCH,
    SearchSpace,
    builder_keywords,
    fixed_values,
    is_dict_key,
    valid_keys,
)
from sweeps.space.signature import call_problems
from sweeps.space.value_checks import fixed_problems, tuned_value_problems


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
        *_stream_problems(space),
        *call_problems(space),
        *tuned_problems(space),
        *fixed_problems(space),
        *tuned_value_problems(space),
    ]
    if not problems:  # what follows draws from the space
        problems = [*first_params_problems(space), *constraint_problems(space)]
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
            problems.append(f"{part}[{key!r}]: {unknown(key, valid)}")
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
    for key in sorted(keys):
        head = key.partition(".")[0]
        if head == key or not argument_fields.get(head):
            continue
        kind, name = (str, "text") if head == OPTIM_ARGS else (Mapping, "a dict")
        if head in space.tuned:
            problems.append(f"{head!r} is tuned as a whole, and {key!r} reaches into it; keep one")
        elif not isinstance(space.fixed.get(head), kind | None):
            problems.append(
                f"fixed[{head!r}] = {space.fixed[head]!r}: must be {name}: {key!r} reaches into it"
            )
    return problems


def _stream_problems(space: SearchSpace) -> list[str]:
    """Return what cannot vary where the worker groups start with a stream of prepared rows."""
    builder = space.build_trainer
    keywords = builder_keywords(builder)
    if not hasattr(builder, "prepare") or STREAM not in keywords:
        return []
    if STREAM in space.tuned:
        return [f"tuned[{STREAM!r}]: worker groups start with it, or without; put it in fixed"]
    if not fixed_values(space).get(STREAM):
        return []
    reads = keywords & set(getattr(builder, "data_fields", keywords))
    problems = [
        f"tuned[{key!r}]: {STREAM}=True streams rows that are prepared once for all trials, and"
        f" {key!r} is read to prepare them; put it in fixed, or give {STREAM}=False"
        for key in sorted(reads & set(space.tuned))
    ]
    if (key := "train_sampling_strategy") in {*space.tuned, *space.fixed}:
        part = "tuned" if key in space.tuned else "fixed"
        problems.append(
            f"{part}[{key!r}]: {STREAM}=True takes rows in the order in which they come; remove it"
        )
    return problems
