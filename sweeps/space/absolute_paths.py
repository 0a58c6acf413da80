"""Makes the paths in a space absolute; its constraints still see them as they were written.

Runs in the sweep process before anything starts, and in the model process. It must not read what
the paths lead to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search.sample import Categorical

from sweeps.space.conditions import map_tunable
from sweeps.space.plain_values import meant_choices
from sweeps.space.search_space import SearchSpace


def with_absolute_paths(space: SearchSpace, base: Path) -> SearchSpace:
    """Return the space with absolute paths for what exists below `base`.

    These are values of the builder, and the file of a DeepSpeed config.

    Trials run in `base`, but on a node without it in another folder, so a path must not depend on
    where the sweep was started.
    """
    builder = space.builder
    written: dict[tuple[str, Any], str] = {}

    def absolute(key: str, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            return value
        may_be_path = key == "deepspeed" or builder.may_be_path(key, value)
        if not may_be_path or not (base / value).exists():
            return value
        path = str((base / value).resolve())
        written[key, path] = value
        return path

    def settled(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: absolute(key, value) for key, value in values.items()}

    def of_key(key: str) -> Callable[[Any], Any]:
        def of_domain(domain: Any) -> Any:
            if key not in keywords or not isinstance(domain, Categorical):
                return domain
            return tune.choice([absolute(key, choice) for choice in meant_choices(domain)])

        return of_domain

    keywords = {*builder.path_fields, "deepspeed"}
    tuned = {
        key: map_tunable(declared, of_key(key), settled) for key, declared in space.tuned.items()
    }
    changed = dataclasses.replace(
        space,
        build_trainer=builder.with_values(settled(builder.values)).own,
        tuned=tuned,
        fixed=settled(space.fixed),
        first_params=[settled(params) for params in space.first_params],
    )
    constraints = [_of_written(constraint, written) for constraint in space.constraints]
    return dataclasses.replace(changed, constraints=constraints)


def _of_written(
    constraint: Callable[[Mapping[str, Any]], bool], written: Mapping[tuple[str, Any], str]
) -> Callable[[Mapping[str, Any]], bool]:
    """Return the constraint as one that is called with absolute paths."""

    def of_absolute(values: Mapping[str, Any]) -> bool:
        return constraint(
            {
                key: written.get((key, value), value) if isinstance(value, str) else value
                for key, value in values.items()
            }
        )

    of_absolute.__name__ = getattr(constraint, "__name__", "<lambda>")
    return of_absolute
