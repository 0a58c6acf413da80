"""Finds packages that values of arguments require but that are not installed.

Runs in the sweep process before Ray starts. It must not import the packages.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from ray.tune.search.sample import Categorical

from sweeps.space.conditions import branches
from sweeps.space.search_space import SearchSpace, fixed_values

OPTIMIZERS = (
    ("galore", "galore_torch"),
    ("apollo", "apollo_torch"),
    ("lomo", "lomo_optim"),
    ("grokadamw", "grokadamw"),
    ("schedule_free", "schedulefree"),
    ("stable_adamw", "optimi"),
    ("anyprecision", "torchdistx"),
    ("xla", "torch_xla"),
    ("npu", "torch_npu"),
    ("torch_4bit", "torchao"),
    ("torch_8bit", "torchao"),
    *((part, "bitsandbytes") for part in ("bnb", "8bit", "paged", "ademamix", "lion")),
)
"""Parts of an optimizer's name, and the package that it needs; the first match counts."""
ATTENTION = {"flash_attention_2": ("flash_attn", "kernels")}
"""Packages by the value of `attn_implementation` that needs one of them (transformers 5)."""
HERE = frozenset({"deepspeed"})
"""Packages that HF imports with the arguments, which the sweep process checks."""
INSTALLED_AS = {"optimi": "torch-optimi"}
"""Packages by module, if the names differ by more than `-` in place of `_`."""


def package_problems(space: SearchSpace, *, only_here: bool = False) -> Iterator[str]:
    """Yield a problem for each value of a space that requires a package that is not installed.

    Args:
        space: The search space.
        only_here: Whether to leave out what only the workers require.
    """
    values = [("fixed", *item) for item in fixed_values(space).items()]
    values += [
        ("tuned", branch.key, choice)
        for branch in branches(space.tuned)
        if isinstance(branch.domain, Categorical)
        for choice in branch.domain.categories
    ]
    for part, key, value in values:
        needed = needs(key, value)
        if only_here and HERE.isdisjoint(needed):
            continue
        if needed and all(importlib.util.find_spec(name) is None for name in needed):
            names = [INSTALLED_AS.get(name, name.replace("_", "-")) for name in needed]
            yield (
                f"{part}[{key!r}]: {value!r} requires {' or '.join(names)}, which is not installed"
                f" here; run pip install {names[0]}"
            )


def needs(key: str, value: Any) -> tuple[str, ...]:
    """Return modules of which an argument's value needs at least one; empty if it needs none."""
    if key.partition(".")[0] == "deepspeed":
        return ("deepspeed",) if value else ()
    if key == "use_liger_kernel":
        return ("liger_kernel",) if value else ()
    if key == "attn_implementation":
        return ATTENTION.get(value, ()) if isinstance(value, str) else ()
    if key == "optim":
        name = str(getattr(value, "value", value))
        return tuple(package for part, package in OPTIMIZERS if part in name)[:1]
    return ()
