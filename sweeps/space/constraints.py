"""Evaluates the space's `constraints` on the params of a trial.

Runs in the sweep process, and wherever `KEY=VALUE` is applied. It must not know how params are
drawn or what happens to rejected ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.errors import UserError
from sweeps.space.search_space import SearchSpace, fixed_values


def constraint_name(space: SearchSpace, index: int) -> str:
    """Return a constraint's name for messages: that of its function, or the index of a lambda."""
    name: str = getattr(space.constraints[index], "__name__", "<lambda>")
    return f"constraints[{index}]" if name == "<lambda>" else name


def broken_constraint(space: SearchSpace, params: Mapping[str, Any]) -> str | None:
    """Return the name of the first constraint that the params violate, or None.

    A constraint also sees the fixed values, but no inactive keys.

    Raises:
        UserError: A constraint raises, or returns anything but True or False.
    """
    values = {**fixed_values(space), **params} if space.constraints else {}
    for index, constraint in enumerate(space.constraints):
        name = constraint_name(space, index)
        try:
            kept = constraint(values)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise UserError(f"constraint {name} raised {what} when called with {values}") from error
        if type(kept).__name__ not in ("bool", "bool_"):  # numpy's bool as well
            raise UserError(f"constraint {name} returned {kept!r}; it must return True or False")
        if not kept:
            return name
    return None
