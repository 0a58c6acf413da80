"""Domains between two bounds: their names and their problems.

Pure; used by `domains.py` and where a value's type is checked. It must not know about any argument.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, replace
from typing import Any

from ray.tune.search.sample import Domain, Float, Integer, LogUniform, Quantized, Uniform

from sweeps.declared_types import is_number
from sweeps.space.domain_data import range_name


@dataclass(frozen=True)
class Range:
    """A domain between two bounds, in terms of the call that creates it."""

    name: str
    """The name of Ray's function, such as `qloguniform`."""
    lower: Any
    upper: Any
    """Excluded by `randint` and `lograndint`, included by all others."""
    quantum: Any = None

    @property
    def whole(self) -> bool:
        """Whether it yields only integers."""
        return self.name.endswith("randint")

    @property
    def log(self) -> bool:
        """Whether it is drawn on a log scale."""
        return "log" in self.name

    @property
    def last(self) -> Any:
        """The largest value."""
        return self.upper - 1 if self.whole and self.quantum is None else self.upper

    def __str__(self) -> str:
        quantum = "" if self.quantum is None else f", {self.quantum!r}"
        return f"{self.name}({self.lower!r}, {self.upper!r}{quantum})"


def range_of(domain: Domain) -> Range | None:
    """Return the range of a domain; None for a choice, or a domain that sweeps cannot search."""
    sampler = domain.get_sampler()
    quantum = sampler.q if isinstance(sampler, Quantized) else None
    inner = sampler.sampler if isinstance(sampler, Quantized) else sampler
    if not isinstance(domain, Float | Integer) or not isinstance(inner, Uniform | LogUniform):
        return None
    name = range_name(
        "int" if isinstance(domain, Integer) else "float",
        log=isinstance(inner, LogUniform),
        quantized=quantum is not None,
    )
    return Range(name, domain.lower, domain.upper, quantum)


def range_problem(of: Range) -> str | None:
    """Return the problem with a range, and its fix; None if there is none."""
    lower, upper, quantum = of.lower, of.upper, of.quantum
    numbers = [lower, upper, *([] if quantum is None else [quantum])]
    if texts := [n for n in numbers if not is_number(n)]:
        return f"{texts[0]!r} is not a number{_without_quotes(of)}"
    if not all(map(math.isfinite, numbers)):
        return f"the range {lower} to {upper} must be finite"
    if of.whole and not all(isinstance(n, int) for n in numbers):
        kind = of.name.replace("randint", "uniform")
        return f"{of} may contain only integers; for fractions, use {kind}"
    if lower > upper:
        turned = replace(of, lower=upper, upper=lower)
        return f"the range {lower} to {upper} is reversed; write {turned}"
    if lower == upper:
        more = f"; {of.name} excludes its upper bound" if of.whole and quantum is None else ""
        return f"the range {lower} to {upper} is empty{more}; a single value belongs in fixed"
    if of.log and lower <= 0:
        near = quantum or (1 if of.whole else upper / 1000)
        fix = f"; write {replace(of, lower=near)}" if upper > near > 0 else ""
        return f"a log range must start above 0{fix}"
    if quantum is None:
        return None
    if quantum <= 0:
        return f"the quantum {quantum} must be greater than 0"
    if quantum > upper - lower:
        return f"the quantum {quantum} is larger than the range {lower} to {upper}"
    if not of.log:
        off = [bound for bound in (lower, upper) if not on_grid(bound, quantum)]
        if off:
            near = f"{_rounded(off[0], quantum):g}"
            return (
                f"{off[0]} is not a multiple of the quantum {quantum}; use multiples as bounds,"
                f" such as {near}"
            )
    return None


def _without_quotes(of: Range) -> str:
    """Return a hint such as `; write loguniform(1e-05, 0.001)` if the bounds are quoted numbers."""
    try:
        lower, upper = (ast.literal_eval(str(bound)) for bound in (of.lower, of.upper))
    except (ValueError, SyntaxError):
        return ""
    numbers = is_number(lower) and is_number(upper)
    return f"; write {replace(of, lower=lower, upper=upper)}" if numbers else ""


def _rounded(value: float, quantum: float) -> float:
    return round(value / quantum) * quantum


def on_grid(value: float, quantum: float) -> bool:
    """Tell whether the value is a multiple of the quantum."""
    return math.isclose(value / quantum, round(value / quantum), abs_tol=1e-9)
