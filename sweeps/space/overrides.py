"""Applies KEY=VALUE from the command line to a search space.

Runs in the sweep process before anything starts, and in the model process, which applies what was
recorded. It must not know where the space came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from ray.tune.search.sample import Domain

from sweeps.config import SweepConfig
from sweeps.declared_types import accepts, is_number, is_text
from sweeps.errors import UserError
from sweeps.report import usual_mode
from sweeps.space import domains
from sweeps.space.checks import unknown
from sweeps.space.conditions import active_branches, branches, branches_of, when
from sweeps.space.constraints import broken_constraint
from sweeps.space.domain_checks import never_active
from sweeps.space.field_values import value_types
from sweeps.space.search_space import (
    OWNED,
    SearchSpace,
    fixed_values,
    is_dict_key,
    meant_params,
    valid_keys,
)

JUDGED = {"--metric": "metric", "--mode": "mode"}
"""Flags that set a field of the space: no builder keyword can have such a name."""
_FIELDS = (field.name for field in dataclasses.fields(SweepConfig))
FLAGS = {"metric", "mode", *_FIELDS} - {"trackers"}
"""What is set with the flag of that name, and people write as `KEY=VALUE`."""


def override(
    space: SearchSpace, assignments: Sequence[str], argument_fields: Mapping[str, bool]
) -> tuple[SearchSpace, list[str]]:
    """Apply `KEY=VALUE` strings to a space.

    A plain value moves its key to `fixed`, a domain moves it to `tuned`. Keys that became fixed are
    removed from `first_params`; an entry that no longer fits is dropped. Another metric than the
    space's gets its usual mode, unless a mode is given.

    Args:
        space: The space as its module defines it.
        assignments: The `KEY=VALUE` strings.
        argument_fields: The fields of its argument class, each with whether it accepts dotted keys.

    Returns:
        The new space, and a line for each change to `first_params`.

    Raises:
        UserError: Lists every wrong key and value.
    """
    tuned, fixed = dict(space.tuned), dict(space.fixed)
    valid, types = valid_keys(space, argument_fields), value_types(space.build_trainer)
    judged: dict[str, Any] = {}
    problems: list[str] = []
    for text in assignments:
        key, equals, value_text = text.partition("=")
        if not key or not equals:
            problems.append(f"{text!r}: must have the form KEY=VALUE")
            continue
        if key in JUDGED:
            judged[JUDGED[key]] = value_text
            continue
        if key in OWNED:
            problems.append(f"{key}: {OWNED[key]}; remove it")
            continue
        if key not in valid and not is_dict_key(key, argument_fields):
            if key in FLAGS:
                problems.append(f"{key}: set by the flag --{key.replace('_', '-')}")
            else:
                problems.append(f"{key}: {unknown(key, valid, space.builder)}")
            continue
        try:
            value = domains.parse(value_text)
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        kind = types.get(key, Any)
        if problem := _lost_quotes(space, key, value_text, kind):
            problems.append(problem)
            continue
        if is_number(value) and is_text(kind):
            value = value_text  # such as a dataset's config that is called 2023
        value = _meant(space, key, value, kind)
        tuned.pop(key, None)
        fixed.pop(key, None)
        (tuned if isinstance(value, Domain) else fixed)[key] = value
        head, _, name = key.partition(".")
        if name and isinstance(whole := fixed.get(head), Mapping):
            fixed[head] = {entry: inner for entry, inner in whole.items() if entry != name}
    metric = judged.get("metric", space.metric)
    if "mode" not in judged and metric != space.metric:
        names = space.builder.metric_names
        if usual := usual_mode(metric):
            judged["mode"] = usual
        elif names is None or metric in names:  # any other metric is refused by `check_space`
            problems.append(no_usual_mode(metric))
    if problems:
        raise UserError(problems, "the command line")
    changed = dataclasses.replace(space, tuned=tuned, fixed=fixed, **judged)
    return _fitted(changed, space)


def _lost_quotes(space: SearchSpace, key: str, text: str, kind: Any) -> str | None:
    """Return the problem with text that may be a list whose quotes a shell removed, or None."""
    words = domains.bare_words(text)
    declared = branches_of(key, space.tuned.get(key, ()))
    is_choice = any(domains.contains(branch.domain, text) for branch in declared)
    if not words or not accepts(kind, words) or is_choice:
        return None
    or_text = f""", or {key}="'{text}'" for text""" if accepts(kind, text) else ""
    return (
        f"{key}: the entries of the list have no quotes, which a shell may have removed; write"
        f' {key}="{words}" for a list{or_text}'
    )


def no_usual_mode(metric: str) -> str:
    """Return the problem with a metric of the command line that needs a mode."""
    return (
        f"--metric {metric}: this name does not tell whether higher or lower values are better;"
        " add --mode max or --mode min"
    )


def _meant(space: SearchSpace, key: str, value: Any, kind: Any) -> Any:
    """Return the value that a string stands for: a current choice, or an enum member by name."""
    found = meant_params(space, {key: value})[key]
    if found is not value or key not in space.builder.keywords:
        return found
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next((member for member in kind if value in (member.name, member.value)), value)
    return value


def _fitted(space: SearchSpace, before: SearchSpace) -> tuple[SearchSpace, list[str]]:
    """Remove the domains and first params that a change made impossible; also return lines."""
    space, lines = _without_lost_branches(space, before)
    space, more_lines = _fit_first_params(space)
    return space, lines + more_lines


def _without_lost_branches(
    space: SearchSpace, before: SearchSpace
) -> tuple[SearchSpace, list[str]]:
    """Remove the domains whose condition a change made impossible; also return lines."""
    known = {branch.name for branch in never_active(before)}
    lost = {branch.name for branch in never_active(space)} - known
    tuned, lines = {}, []
    for key, declared in space.tuned.items():
        of_key = list(branches_of(key, declared))
        kept = [branch for branch in of_key if branch.name not in lost]
        lines += [
            f"{branch.name} is dropped: it can no longer be active"
            for branch in of_key
            if branch.name in lost
        ]
        if len(kept) == len(of_key):
            tuned[key] = declared
        elif kept:
            tuned[key] = [when(branch.condition, branch.domain) for branch in kept]
    return dataclasses.replace(space, tuned=tuned), lines


def _fit_first_params(space: SearchSpace) -> tuple[SearchSpace, list[str]]:
    kept: list[Mapping[str, Any]] = []
    lines = []
    for i, entry in enumerate(space.first_params):
        place = f"first_params[{i}]"
        params = {key: value for key, value in entry.items() if key in space.tuned}
        for key in entry:
            if key in params:
                continue
            why = "it is now fixed" if key in space.fixed else "it is not tuned"
            lines.append(f"{place} no longer has {key!r}: {why}")
        wrong = _outside(space, params)
        if wrong:
            keys = ", ".join(map(repr, sorted(wrong)))
            lines.append(f"{place} is dropped: it has no allowed value for {keys}")
        elif not params:
            lines.append(f"{place} is dropped: none of its params is tuned now")
        elif params in kept:
            lines.append(f"{place} is dropped: it duplicates an earlier entry")
        elif broken := broken_constraint(space, params):
            lines.append(f"{place} is dropped: it violates the constraint {broken}")
        else:
            kept.append(params)
    return dataclasses.replace(space, first_params=kept), lines


def _outside(space: SearchSpace, params: Mapping[str, Any]) -> list[str]:
    """Return the keys that are missing, not allowed, or have a value outside their domain."""
    try:
        found = active_branches(branches(space.tuned), fixed_values(space), params)
    except ValueError:  # the conditions form a cycle, which the checks report
        return []
    return [
        key
        for key in {*found, *params}
        if key not in found
        or key not in params
        or not domains.contains(found[key].domain, params[key])
    ]


def settle_builder(
    space: SearchSpace, *, tiny: bool, assigned: set[str], where: str
) -> tuple[SearchSpace, list[str]]:
    """Return the space with its fixed builder keywords moved into the builder.

    With `tiny`, the builder is made tiny. Lines are also returned for the assigned and tuned keys
    that this overrides, and for what can no longer be tuned because of it.
    """
    builder = space.builder.with_values(space.fixed)
    fixed = {key: value for key, value in space.fixed.items() if key not in builder.values}
    space = dataclasses.replace(space, build_trainer=builder.own, fixed=fixed)
    if not tiny:
        return space, []
    small = builder.tiny()
    if small is None:
        raise UserError(f"--tiny requires tiny(), which {builder.name} does not define", where)
    replaced = {key for key, value in builder.values.items() if small.values[key] != value}
    lines = [f"--tiny overrides {key}" for key in sorted(replaced & (assigned | set(space.tuned)))]
    tuned = {key: declared for key, declared in space.tuned.items() if key not in replaced}
    first = [
        {key: value for key, value in params.items() if key not in replaced}
        for params in space.first_params
    ]
    made = dataclasses.replace(space, build_trainer=small.own, tuned=tuned, first_params=first)
    fitting, more_lines = _fitted(made, space)
    if not fitting.tuned:
        more_lines.append("--tiny leaves nothing to tune")
    return fitting, lines + more_lines
