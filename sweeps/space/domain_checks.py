"""Checks whether params can be drawn from a space: domains, conditions, constraints.

Runs in the sweep process when a space is checked, and wherever `KEY=VALUE` is applied. It must not
know which values an argument accepts: `field_values.py` does.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Integer

from sweeps.declared_types import is_number
from sweeps.errors import UserError
from sweeps.naming import nearest
from sweeps.space import domains
from sweeps.space.conditions import (
    Branch,
    When,
    active_branches,
    branches,
    branches_of,
    choose,
    exclusive,
    same,
)
from sweeps.space.constraints import broken_constraint, constraint_name
from sweeps.space.domain_data import condition_text
from sweeps.space.search_space import SearchSpace, fixed_values

GRID = "grid_search"
"""The key in the dict that `tune.grid_search` returns: Ray has no domain for it."""
DRAWS = 1000
"""Number of random draws after which a space is considered empty."""


def tuned_problems(space: SearchSpace) -> Iterator[str]:
    """Yield the problems with domains and conditions; keys and types are checked elsewhere."""
    for key, declared in space.tuned.items():
        yield from _shape_problems(key, declared)
        of_key = list(branches_of(key, declared))
        for branch in of_key:
            if isinstance(branch.domain, Domain) and (
                reason := domains.problem_with(branch.domain)
            ):
                yield f"tuned[{key!r}]: {reason}"
            yield from _condition_problems(space, branch)
        for one, other in itertools.combinations(of_key, 2):
            if one.condition and other.condition and not exclusive(one, other):
                yield (
                    f"tuned[{key!r}]: {condition_text(one.condition)} and"
                    f" {condition_text(other.condition)} can both be true; make the conditions"
                    " mutually exclusive"
                )
    try:
        branches(space.tuned)
    except ValueError as error:
        yield f"the conditions of {error} depend on each other; remove one of them"


def _shape_problems(key: str, declared: Any) -> Iterator[str]:
    """Yield a problem for each value that is not a domain, a `when` or a list of `when`s."""
    if isinstance(declared, When):
        if not isinstance(declared.condition, Mapping) or not declared.condition:
            yield (
                f"tuned[{key!r}]: when({declared.condition!r}, ...): the condition must be a dict"
                " with at least one key and its value, such as {'optim': 'sgd'}"
            )
            return
        yield from _shape_problems(key, declared.then)
    elif isinstance(declared, list | tuple) and not _are_values(declared):
        for part in declared:
            if not isinstance(part, When):
                shown = domains.describe(part) if isinstance(part, Domain) else repr(part)
                yield f"tuned[{key!r}]: {shown}: a list may contain only when(...) entries"
            else:
                yield from _shape_problems(key, part)
        if not declared:
            yield f"tuned[{key!r}]: the list is empty"
    elif (meant := _meant(declared)) is not None:
        yield f"tuned[{key!r}] = {declared!r}: not a Tune domain; use {meant}"
    elif not isinstance(declared, Domain):
        yield (
            f"tuned[{key!r}] = {declared!r}: not a Tune domain;"
            " a value shared by all trials belongs in fixed"
        )


def _are_values(declared: Sequence[Any]) -> bool:
    return bool(declared) and not any(isinstance(part, When | Domain) for part in declared)


def _meant(declared: Any) -> str | None:
    """Return, as text, the domain that the user may have meant by a list or a string.

    None for a single value.
    """
    if isinstance(declared, Mapping) and list(declared) == [GRID]:
        declared = declared[GRID]
    elif isinstance(declared, str):
        try:
            meant = domains.parse(declared)
        except ValueError:
            return None
        return f"tune.{domains.describe(meant)}" if isinstance(meant, Domain) else None
    elif not isinstance(declared, list | tuple):
        return None
    written = f"choice({list(declared)!r})"
    numbers = all(map(is_number, declared))
    if isinstance(declared, tuple) and len(declared) == 2 and numbers and declared[0] < declared[1]:
        return f"{written}, or uniform({declared[0]!r}, {declared[1]!r}) for any number in between"
    return written


def _condition_problems(space: SearchSpace, branch: Branch) -> Iterator[str]:
    """Yield the reasons why a condition can never hold."""
    place = f"tuned[{branch.key!r}]: when {condition_text(branch.condition)}:"
    fixed = fixed_values(space)
    for key, wanted in branch.condition.items():
        if key == branch.key:
            yield f"{place} {key!r} cannot depend on itself"
        elif key in space.tuned:
            found = [of.domain for of in branches_of(key, space.tuned[key])]
            if not all(isinstance(domain, Domain) for domain in found):
                continue  # reported under that key
            if not any(isinstance(domain, Categorical | Integer) for domain in found):
                yield (
                    f"{place} {key!r} is a range of floats, so it never equals an exact value; make"
                    " it a choice"
                )
            elif not any(_gives(domain, wanted) for domain in found):
                shown = " or ".join(domains.describe(domain) for domain in found)
                yield f"{place} {key!r} is never {wanted!r}; its domain is {shown}"
        elif key not in fixed:
            known = sorted({*space.tuned, *fixed})
            yield f"{place} {key!r} is neither tuned nor fixed{nearest(key, known)}"


def _gives(domain: Domain, wanted: Any) -> bool:
    if isinstance(domain, Categorical):
        return any(same(choice, wanted) for choice in domain.categories)
    return domains.contains(domain, wanted)


def never_active(space: SearchSpace) -> list[Branch]:
    """Return the branches whose condition can never hold, given the rest of the space."""
    fixed = fixed_values(space)
    return [
        branch
        for key, declared in space.tuned.items()
        for branch in branches_of(key, declared)
        if any(not same(fixed[other], v) for other, v in branch.condition.items() if other in fixed)
        or any(_condition_problems(space, branch))
    ]


def first_params_problems(space: SearchSpace) -> Iterator[str]:
    """Yield the problems with `first_params`."""
    for i, params in enumerate(space.first_params):
        place = f"first_params[{i}]"
        problems = list(_params_problems(space, params, place))
        yield from problems
        if problems:
            continue
        equal = [j for j in range(i) if space.first_params[j] == params]
        if equal:
            yield f"{place}: duplicates first_params[{equal[0]}]; remove one"
        try:
            if broken := broken_constraint(space, params):
                yield f"{place}: violates the constraint {broken}"
        except UserError as error:
            yield from error.problems


def _params_problems(space: SearchSpace, params: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield a problem for missing keys, for keys not tuned, and for values outside their domain."""
    found = active_branches(branches(space.tuned), fixed_values(space), params)
    if missing := sorted(set(found) - set(params)):
        yield f"{place}: no value for {', '.join(map(repr, missing))}"
    if inactive := sorted(set(params) & set(space.tuned) - set(found)):
        yield (
            f"{place}: {', '.join(map(repr, inactive))}: its condition does not hold with these"
            " params; remove it"
        )
    if extra := sorted(set(params) - set(space.tuned)):
        yield f"{place}: {', '.join(map(repr, extra))}: not tuned"
    for key, branch in found.items():
        if key in params and not domains.contains(branch.domain, params[key]):
            shown = domains.describe(branch.domain)
            yield f"{place}[{key!r}] = {params[key]!r}: outside the domain {shown}"


def constraint_problems(space: SearchSpace) -> Iterator[str]:
    """Yield a problem for constraints that cannot be called, and one if no draw satisfies all."""
    for i, constraint in enumerate(space.constraints):
        if not _takes_params(constraint):
            yield (
                f"constraint {constraint_name(space, i)}: must take exactly one argument, the"
                " params"
            )
    if not space.constraints or not all(map(_takes_params, space.constraints)):
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
    yield (
        f"constraints: none of {DRAWS} random sets of params satisfies all of them"
        f" (violated: {often}); relax one of them"
    )


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
