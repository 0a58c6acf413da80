"""The tuned arguments as axes of pictures: one per domain, with the positions of trials on it.

Pure functions. They must not know how an axis is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweeps.records.sweep_record import SpaceRecord
from sweeps.report import Mode, better
from sweeps.space.conditions import holds, same
from sweeps.space.domain_data import DomainData, condition_text

BUCKETS = 8
"""Number of parts that a range is divided into."""
EDGE = 0.05
"""A value within this share of its domain from an end is at the edge."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One domain of a tuned argument."""

    name: str
    """The argument, and the condition of this domain if there is one."""
    key: str
    kind: Literal["float", "int", "choice"]
    low: float | None
    """Lowest value; None for a choice."""
    high: float | None
    """Highest possible value; None for a choice."""
    log: bool
    choices: tuple[str, ...]
    """The values of a choice, as text."""
    domain: str
    """The call that creates the domain."""
    edge: Literal["low", "high"] | None
    """The end of the domain where the winner is; None if at neither, or if that end cannot move."""
    buckets: Sequence[tuple[float, float]]
    """The best trial in each part of the domain: its position on the axis, and its value;
    ascending."""


def find_axes(
    space: SpaceRecord,
    winner: Mapping[str, Any] | None,
    tried: Sequence[tuple[Mapping[str, Any], float]],
) -> list[Axis]:
    """Return an axis for each domain of the space, in its order.

    Args:
        space: What is tuned.
        winner: The winner's params; None before the first value.
        tried: Params and value of each trial that has one.
    """
    axes = []
    for key, domain in _domains(space):
        best = _value(space, key, domain, winner) if winner is not None else None
        places = [(_value(space, key, domain, params), value) for params, value in tried]
        points = [(place, value) for place, value in places if place is not None]
        axes.append(_axis(key, domain, best, points, space.mode))
    return axes


def find_values(space: SpaceRecord, params: Mapping[str, Any]) -> list[float | None]:
    """Return the position of params on each axis: a number, a choice's index, None if inactive."""
    return [_value(space, key, domain, params) for key, domain in _domains(space)]


def _domains(space: SpaceRecord) -> list[tuple[str, DomainData]]:
    return [(key, domain) for key, domains in space.tuned.items() for domain in domains]


def _axis(
    key: str,
    domain: DomainData,
    best: float | None,
    points: Sequence[tuple[float, float]],
    mode: Mode,
) -> Axis:
    condition = f" when {condition_text(domain.condition)}" if domain.condition else ""
    low, high = domain.lower, domain.upper
    if domain.kind == "int" and domain.quantum is None and high is not None:
        high -= 1  # `randint` excludes it
    return Axis(
        name=f"{key}{condition}",
        key=key,
        kind=domain.kind,
        low=low,
        high=high,
        log=domain.log,
        choices=tuple(map(_text, domain.choices)),
        domain=str(domain),
        edge=_edge(low, _share(low, high, domain.log, best)) if best is not None else None,
        buckets=_buckets(low, high, domain.log, points, mode),
    )


def _share(low: float | None, high: float | None, log: bool, value: float) -> float | None:
    """Return a value's position between the ends of a range, in [0, 1]; None for a choice."""
    if low is None or high is None or low >= high:
        return None
    scale = math.log if log else float
    return (scale(value) - scale(low)) / (scale(high) - scale(low))


def _edge(low: float | None, share: float | None) -> Literal["low", "high"] | None:
    """Return the end of its range that a value is close to, or None.

    A lower end of 0 does not count: most params cannot go below it.
    """
    if share is None:
        return None
    if share <= EDGE and low != 0:
        return "low"
    return "high" if share >= 1 - EDGE else None


def _buckets(
    low: float | None,
    high: float | None,
    log: bool,
    points: Sequence[tuple[float, float]],
    mode: Mode,
) -> tuple[tuple[float, float], ...]:
    """Return the best point of each choice, or of each of `BUCKETS` equal parts of a range."""
    best: dict[float, tuple[float, float]] = {}
    for place, value in points:
        share = _share(low, high, log, place)
        bucket = place if share is None else min(int(share * BUCKETS), BUCKETS - 1)
        if better(value, best[bucket][1] if bucket in best else None, mode):
            best[bucket] = place, value
    return tuple(sorted(best.values()))


def _value(
    space: SpaceRecord, key: str, domain: DomainData, params: Mapping[str, Any]
) -> float | None:
    values = {**space.fields, **space.fixed, **params}
    if key not in params or not holds(domain.condition, values):
        return None
    value = params[key]
    if domain.kind != "choice":
        return float(value)
    return next((float(i) for i, one in enumerate(domain.choices) if same(one, value)), None)


def _text(choice: Any) -> str:
    return choice if isinstance(choice, str) else repr(choice)
