"""The baseline of a script's sweep: the script as it stands, if the space allows its values.

Runs in the sweep process after the dry run. It must not know how trials are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sweeps.space import domains
from sweeps.space.adapted import Adapted
from sweeps.space.arguments import BATCH_FIELDS
from sweeps.space.conditions import Branch, branches, choose
from sweeps.space.constraints import broken_constraint
from sweeps.space.domain_data import condition_text
from sweeps.space.search_space import TOTAL_BATCH, SearchSpace, fixed_values


def with_baseline(space: SearchSpace, workers: int) -> tuple[SearchSpace, list[str]]:
    """Return the space with the script's own values as its first params, and a line that says so.

    If the script has a value that the space does not allow, there is no such baseline, and the line
    says why. A space without a script, or with `first_params`, stays as it is.

    Args:
        space: The checked space.
        workers: Workers per trial: a script's total batch grows with them.

    Raises:
        UserError: A constraint raises, or returns something other than True or False.
    """
    builder = space.builder
    if builder.script_file is None or space.first_params:
        return space, []
    own = _own_values(builder, workers)
    reasons: list[str] = []

    def pick(branch: Branch) -> Any:
        try:
            value = _value(own, branch.key)
        except KeyError:
            reasons.append(f"its own {branch.key} is not known")
            return None
        try:
            return domains.member(branch.domain, value)
        except ValueError as error:
            reasons.append(f"its own {branch.key} = {value!r} is {error}")
            return None

    params = choose(branches(space.tuned), fixed_values(space), pick)
    if not reasons and (broken := broken_constraint(space, params)):
        reasons.append(f"its own values violate the constraint {broken}")
    if reasons:
        return space, [
            f"there is no baseline trial of {builder.name} as it stands: {'; '.join(reasons)}"
        ]
    line = f"t001, the baseline, runs {builder.name} with its own values: {condition_text(params)}"
    return dataclasses.replace(space, first_params=[params]), [line]


def own_arguments(builder: Adapted) -> dict[str, Any]:
    """Return the values that a script's arguments had in its dry run."""
    assert builder.argument_class is not None, "the script has had its dry run"
    fields = dataclasses.fields(builder.argument_class)
    defaults = {
        field.name: getattr(field.default, "value", field.default)  # HF's enums
        for field in fields
        if field.default is not dataclasses.MISSING
    }
    return {**defaults, **builder.argument_values}


def _own_values(builder: Adapted, workers: int) -> dict[str, Any]:
    values = own_arguments(builder)
    rows, steps = (values[field] for field in BATCH_FIELDS)
    return {**values, **builder.keyword_values, TOTAL_BATCH: rows * steps * workers}


def _value(own: Mapping[str, Any], key: str) -> Any:
    """Return the script's value of a key, which may name an entry of a dict.

    Raises:
        KeyError: It is not known.
    """
    head, _, name = key.partition(".")
    whole = own[head]
    if not name:
        return whole
    if not isinstance(whole, Mapping):
        raise KeyError(key)
    return whole[name]
