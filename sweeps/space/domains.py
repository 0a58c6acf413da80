"""Ray's domains as text, from text, and what a domain may hold.

Used wherever a space is checked, printed or overridden. It must not know the searcher.
"""

from __future__ import annotations

import ast
import json
import math
from typing import Any

from ray import tune
from ray.tune.search.sample import (
    Categorical,
    Domain,
    Float,
    Integer,
    LogUniform,
    Quantized,
    Uniform,
)

NAMES = (
    "uniform",
    "quniform",
    "loguniform",
    "qloguniform",
    "randint",
    "qrandint",
    "lograndint",
    "qlograndint",
    "choice",
)


def describe(domain: Domain) -> str:
    """Return the call that makes this domain, `loguniform(1e-05, 0.0001)`."""
    if isinstance(domain, Categorical):
        return f"choice({list(domain.categories)!r})"
    sampler = domain.get_sampler()
    quantum = sampler.q if isinstance(sampler, Quantized) else None
    inner = sampler.sampler if isinstance(sampler, Quantized) else sampler
    if not isinstance(domain, Float | Integer) or not isinstance(inner, Uniform | LogUniform):
        return f"a {type(domain).__name__} domain"
    name = "log" if isinstance(inner, LogUniform) else ""
    if isinstance(domain, Integer):
        name += "randint"
    else:
        name += "uniform"
    bounds = f"{domain.lower!r}, {domain.upper!r}"
    return f"{name}({bounds})" if quantum is None else f"q{name}({bounds}, {quantum!r})"


def problem_with(domain: Domain) -> str | None:
    """Say why a sweep cannot search this domain; None if it can."""
    if isinstance(domain, Categorical):
        try:
            plain = json.loads(json.dumps(list(domain.categories), allow_nan=False))
        except (TypeError, ValueError):
            plain = None
        if plain != list(domain.categories):
            return "the choices must be strings, numbers, booleans, None, or lists of them"
        return None if plain else "there is nothing to choose from"
    sampler = domain.get_sampler()
    inner = sampler.sampler if isinstance(sampler, Quantized) else sampler
    bounded = isinstance(domain, Float | Integer) and isinstance(inner, Uniform | LogUniform)
    if not bounded:
        return f"not a domain that can be searched; use one of {', '.join(NAMES)}"
    if isinstance(domain, Integer) and not all(
        isinstance(bound, int) for bound in (domain.lower, domain.upper)
    ):
        return f"the range {domain.lower} to {domain.upper} must be of whole numbers"
    # randint excludes its upper bound, all others include theirs.
    empty = domain.lower >= domain.upper
    if empty:
        return f"the range {domain.lower} to {domain.upper} is empty"
    if isinstance(sampler, Quantized) and isinstance(inner, Uniform):
        off = [bound for bound in (domain.lower, domain.upper) if not _on_grid(bound, sampler.q)]
        if off:
            return f"{off[0]} is no multiple of the quantum {sampler.q}; begin and end at multiples"
    return None


def _on_grid(value: float, quantum: float) -> bool:
    return math.isclose(value / quantum, round(value / quantum), abs_tol=1e-9)


def contains(domain: Domain, value: Any) -> bool:
    """Tell whether the domain can give this value."""
    if isinstance(domain, Categorical):
        return value in domain.categories
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    sampler = domain.get_sampler()
    quantized = isinstance(sampler, Quantized)
    if quantized and isinstance(sampler.sampler, Uniform) and not _on_grid(value, sampler.q):
        return False
    if isinstance(domain, Integer):
        last = domain.upper if quantized else domain.upper - 1
        return isinstance(value, int) and bool(domain.lower <= value <= last)
    return bool(domain.lower <= value <= domain.upper)


def parse(text: str) -> Any:
    """Return what a command-line value means: a domain, a Python literal, or the text itself.

    Nothing is evaluated: a call must be one of Ray's domain names, with literals inside.

    Raises:
        ValueError: It looks like a domain and is none.
    """
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return text
    if text in ("true", "false"):  # as text both would count as true
        return text == "true"
    if not isinstance(tree, ast.Call):
        try:
            return ast.literal_eval(tree)
        except (ValueError, TypeError):
            return text
    name = ast.unparse(tree.func).removeprefix("tune.")
    if name not in NAMES:
        raise ValueError(f"{name} is not a domain; use one of {', '.join(NAMES)}")
    try:
        positional = [ast.literal_eval(argument) for argument in tree.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
        return getattr(tune, name)(*positional, **named)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{text}: {error}") from None
