"""Domains that are active only if a condition holds: `when(condition, domain)`.

Pure; used wherever a space is checked, printed or searched. It must not know how a value is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ray.tune.search.sample import Domain

from sweeps.space import domains
from sweeps.space.domain_data import condition_text


@dataclass(frozen=True)
class When:
    """A domain, or further conditions, that depend on a condition."""

    condition: Mapping[str, Any]
    """Keys of `tuned`, `fixed` or the builder with their required values; all of them must
    match."""
    then: Tunable


Tunable: TypeAlias = Domain | When | Sequence[When]
"""What `tuned` may contain for a key."""


def when(condition: Mapping[str, Any], domain: Tunable) -> When:
    """Return a domain that is active only if `condition` holds, such as `{"optim": "sgd"}`.

    Otherwise the argument keeps its default. `domain` may be another `when`, or a list of them.
    """
    return When(condition, domain)


@dataclass(frozen=True)
class Branch:
    """One domain of one key, with its complete condition."""

    key: str
    condition: Mapping[str, Any]
    domain: Domain

    @property
    def name(self) -> str:
        """A name that is unique in the space: the key, and the condition if there is one."""
        return f"{self.key} when {condition_text(self.condition)}" if self.condition else self.key


def branches_of(key: str, declared: Any) -> Iterator[Branch]:
    """Yield a branch for each domain of a key, with nested conditions merged.

    An invalid value takes the place of a domain: `domain_checks.py` reports it.
    """
    if isinstance(declared, When):
        condition = declared.condition if isinstance(declared.condition, Mapping) else {}
        for inner in branches_of(key, declared.then):
            yield Branch(key, {**condition, **inner.condition}, inner.domain)
    elif isinstance(declared, list | tuple):
        for part in declared:
            yield from branches_of(key, part)
    else:
        yield Branch(key, {}, declared)


def branches(tuned: Mapping[str, Any]) -> list[Branch]:
    """Return every domain of a space, each one after the domains that its condition depends on.

    Raises:
        ValueError: The conditions form a cycle; names their keys.
    """
    left = {key: list(branches_of(key, declared)) for key, declared in tuned.items()}
    ordered: list[Branch] = []
    while left:
        ready = [
            key
            for key, of_key in left.items()
            if not any(other in left for branch in of_key for other in branch.condition)
        ]
        if not ready:
            raise ValueError(", ".join(map(repr, left)))
        # One at a time, so that a key without a condition keeps its place.
        ordered += left.pop(ready[0])
    return ordered


def holds(condition: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Tell whether every key of the condition has the required value.

    False if a key is inactive.
    """
    return all(key in values and same(values[key], wanted) for key, wanted in condition.items())


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal; True is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def exclusive(one: Branch, other: Branch) -> bool:
    """Tell whether two branches can never both be active."""
    return any(
        not same(value, other.condition[key])
        for key, value in one.condition.items()
        if key in other.condition
    )


def choose(
    ordered: Sequence[Branch], fixed: Mapping[str, Any], pick: Callable[[Branch], Any]
) -> dict[str, Any]:
    """Return params: `pick` is called for every active branch.

    Args:
        ordered: The space's `branches`.
        fixed: Values that conditions may depend on.
        pick: Returns a value of the branch's domain.
    """
    values, found = dict(fixed), {}
    for branch in ordered:
        if holds(branch.condition, values):
            found[branch.key] = values[branch.key] = pick(branch)
    return found


def active_branches(
    ordered: Sequence[Branch], fixed: Mapping[str, Any], params: Mapping[str, Any]
) -> dict[str, Branch]:
    """Return the active branch of each key, given params; inactive keys are left out.

    An active key without a value in `params` makes conditions on it false.
    """
    values, found = dict(fixed), {}
    for branch in ordered:
        if holds(branch.condition, values):
            found[branch.key] = branch
            if branch.key in params:
                values[branch.key] = params[branch.key]
    return found


def map_tunable(
    declared: Any,
    domain: Callable[[Any], Any],
    condition: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Any:
    """Return the declaration of a key with each domain and each condition changed."""
    if isinstance(declared, When):
        then = map_tunable(declared.then, domain, condition)
        return When(condition(declared.condition), then)
    if isinstance(declared, list | tuple):
        return [map_tunable(part, domain, condition) for part in declared]
    return domain(declared)


def describe_tunable(declared: Any) -> str:
    """Return a declaration as one line: `uniform(0.3, 0.7) when lr_scheduler_type = 'cosine'`."""
    parts = []
    for branch in branches_of("", declared):
        of_domain = isinstance(branch.domain, Domain)
        shown = domains.describe(branch.domain) if of_domain else repr(branch.domain)
        condition = condition_text(branch.condition)
        parts.append(f"{shown} when {condition}" if condition else shown)
    return "; ".join(parts)
