"""What is wrong with the domains of a space and with the conditions they stand under.

Runs in the sweep process. It must not know what an argument takes: `value_checks.py` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ray.tune.search.sample import Categorical, Domain, Integer

from sweeps.space import domains
from sweeps.space.conditions import (
    Branch,
    When,
    branches,
    branches_of,
    exclusive,
    same,
)
from sweeps.space.domain_data import condition_text
from sweeps.space.search_space import SearchSpace, fixed_values, nearest


def tuned_problems(space: SearchSpace) -> Iterator[str]:
    """Yield what is wrong with domains and conditions; keys and types are checked elsewhere."""
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
                    f"tuned[{key!r}]: {condition_text(one.condition)}"
                    f" and {condition_text(other.condition)}"
                    " may hold at once; let the conditions exclude each other"
                )
    try:
        branches(space.tuned)
    except ValueError as error:
        yield f"the conditions of {error} wait for each other; let one of them have none"


def _shape_problems(key: str, declared: Any) -> Iterator[str]:
    """Yield what stands where a domain, a `when` or a list of those should."""
    if isinstance(declared, When):
        if not isinstance(declared.condition, Mapping) or not declared.condition:
            yield (
                f"tuned[{key!r}]: when({declared.condition!r}, ...): the condition must be a dict"
                " of keys and values, such as {'optim': 'sgd'}"
            )
            return
        yield from _shape_problems(key, declared.then)
    elif isinstance(declared, list | tuple):
        for part in declared:
            if not isinstance(part, When):
                shown = domains.describe(part) if isinstance(part, Domain) else repr(part)
                what = "when(...) alone may stand in a list"
                fix = "" if isinstance(part, Domain) else "; several values are choice([...])"
                yield f"tuned[{key!r}]: {shown}: {what}{fix}"
            else:
                yield from _shape_problems(key, part)
        if not declared:
            yield f"tuned[{key!r}]: an empty list"
    elif not isinstance(declared, Domain):
        yield (
            f"tuned[{key!r}] = {declared!r}: not a Tune domain;"
            " a value equal in all trials belongs in fixed"
        )


def _condition_problems(space: SearchSpace, branch: Branch) -> Iterator[str]:
    """Yield why a condition can never hold."""
    place = f"tuned[{branch.key!r}]: when {condition_text(branch.condition)}:"
    fixed = fixed_values(space)
    for key, wanted in branch.condition.items():
        if key == branch.key:
            yield f"{place} {key!r} cannot wait for itself"
        elif key in space.tuned:
            found = [of.domain for of in branches_of(key, space.tuned[key])]
            if not all(isinstance(domain, Domain) for domain in found):
                continue  # said of that key
            if not any(isinstance(domain, Categorical | Integer) for domain in found):
                yield f"{place} {key!r} is drawn from a range, and equals no value; use a choice"
            elif not any(_gives(domain, wanted) for domain in found):
                shown = " or ".join(domains.describe(domain) for domain in found)
                yield f"{place} {key!r} is never {wanted!r}; it is {shown}"
        elif key not in fixed:
            known = sorted({*space.tuned, *fixed})
            yield f"{place} {key!r} is neither tuned nor fixed{nearest(key, known)}"


def _gives(domain: Domain, wanted: Any) -> bool:
    if isinstance(domain, Categorical):
        return any(same(choice, wanted) for choice in domain.categories)
    return domains.contains(domain, wanted)


def never_asked(space: SearchSpace) -> list[Branch]:
    """Return the branches whose condition can never hold beside the rest of the space."""
    fixed = fixed_values(space)
    return [
        branch
        for key, declared in space.tuned.items()
        for branch in branches_of(key, declared)
        if any(not same(fixed[other], v) for other, v in branch.condition.items() if other in fixed)
        or any(_condition_problems(space, branch))
    ]
