"""Whether every value that a space fixes, or that a domain of it can give, suits its argument.

Runs in the sweep process; types are those of the installed class and of the builder's signature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray.tune.search.sample import Domain

from sweeps.space import domains
from sweeps.space.conditions import When, branches_of, describe_tunable
from sweeps.space.field_values import domain_problems, value_problem
from sweeps.space.search_space import MAX_ROWS, OWNED, TOTAL_BATCH, SearchSpace
from sweeps.space.signature import value_types

ELSEWHERE = {TOTAL_BATCH, MAX_ROWS, *OWNED}
"""Batch sizes are checked where the number of workers is known; the others are refused at all."""


def fixed_problems(space: SearchSpace) -> Iterator[str]:
    """Yield what is wrong with the values of `fixed`."""
    types = value_types(space.build_trainer)
    for key, value in space.fixed.items():
        if isinstance(value, Domain | When):
            yield f"fixed[{key!r}] = {describe_tunable(value)}: a domain; it belongs in tuned"
        elif key not in ELSEWHERE and (problem := value_problem(key, types.get(key, Any), value)):
            yield f"fixed[{key!r}] = {value!r}: {problem}"


def tuned_value_problems(space: SearchSpace) -> Iterator[str]:
    """Yield what a domain of `tuned` can give and its argument cannot take."""
    types = value_types(space.build_trainer)
    for key, declared in space.tuned.items():
        if key not in types or key in ELSEWHERE:
            continue
        for branch in branches_of(key, declared):
            if isinstance(branch.domain, Domain) and not domains.problem_with(branch.domain):
                for problem in domain_problems(key, types[key], branch.domain):
                    yield f"tuned[{key!r}]: {problem}"
