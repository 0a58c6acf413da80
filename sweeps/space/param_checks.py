"""Whether `first_params` fit a space, and whether its constraints leave anything to draw.

Runs in the sweep process, on a space whose keys and domains are known to be right.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from sweeps.errors import UserError
from sweeps.space import domains
from sweeps.space.conditions import active_branches, branches, choose
from sweeps.space.constraints import broken_constraint, constraint_name
from sweeps.space.search_space import SearchSpace, fixed_values

DRAWS = 1000
"""Random params that are tried before a space is called empty."""


def first_params_problems(space: SearchSpace) -> Iterator[str]:
    """Yield what is wrong with `first_params`."""
    for i, params in enumerate(space.first_params):
        place = f"first_params[{i}]"
        if not isinstance(params, Mapping):
            yield f"{place} = {params!r}: must be a dict of params"
            continue
        problems = list(params_problems(space, params, place))
        yield from problems
        if problems:
            continue
        equal = [j for j in range(i) if space.first_params[j] == params]
        if equal:
            yield f"{place}: equal to first_params[{equal[0]}]; remove one"
        try:
            if broken := broken_constraint(space, params):
                yield f"{place}: breaks the constraint {broken}"
        except UserError as error:
            yield from error.problems


def params_problems(space: SearchSpace, params: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield the keys that params lack or should not have, and values outside their domain."""
    found = active_branches(branches(space.tuned), fixed_values(space), params)
    if missing := sorted(set(found) - set(params)):
        yield f"{place}: no value for {', '.join(map(repr, missing))}"
    if unasked := sorted(set(params) & set(space.tuned) - set(found)):
        yield f"{place}: {', '.join(map(repr, unasked))} is not asked: its condition is false"
    if extra := sorted(set(params) - set(space.tuned)):
        yield f"{place}: {', '.join(map(repr, extra))} is not tuned"
    for key, branch in found.items():
        if key in params and not domains.contains(branch.domain, params[key]):
            shown = domains.describe(branch.domain)
            yield f"{place}[{key!r}] = {params[key]!r}: outside {shown}"


def constraint_problems(space: SearchSpace) -> Iterator[str]:
    """Yield constraints that cannot be asked, and say so where nothing keeps them all."""
    for i, constraint in enumerate(space.constraints):
        if not callable(constraint):
            yield f"constraints[{i}] = {constraint!r}: must be a function of params"
        elif not _takes_params(constraint):
            yield f"constraint {constraint_name(space, i)}: must take one argument, the params"
    if not space.constraints or any(map(_cannot_be_asked, space.constraints)):
        return
    generator = Random(0)
    ordered, fixed = branches(space.tuned), fixed_values(space)
    broken: dict[str, int] = {}
    for _ in range(DRAWS):
        params = choose(ordered, fixed, lambda branch: domains.draw(branch.domain, generator))
        try:
            name = broken_constraint(space, params)
        except UserError as error:
            yield from error.problems
            return
        if name is None:
            return
        broken[name] = broken.get(name, 0) + 1
    if any(_keeps(space, params) for params in space.first_params):
        return
    often = ", ".join(f"{name} {count} times" for name, count in broken.items())
    yield f"constraints: none of {DRAWS} random params keeps them all (broken: {often})"


def _cannot_be_asked(constraint: Any) -> bool:
    return not callable(constraint) or not _takes_params(constraint)


def _takes_params(constraint: Any) -> bool:
    try:
        inspect.signature(constraint).bind({})
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _keeps(space: SearchSpace, params: Mapping[str, Any]) -> bool:
    try:
        return broken_constraint(space, params) is None
    except UserError:
        return False
