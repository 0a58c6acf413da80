"""What a run in MLflow can hold, as plain values, and how names and values are made fit for it.

Used by the writer process. It must not know MLflow's client, nor events.
"""

from __future__ import annotations

import colorsys
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
VALUE_LENGTH = 6000
"""Characters of a param that MLflow 3.17 keeps; the rest it would drop without a word."""
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    value: float
    time_ms: int
    step: int


@dataclass
class RunUpdate:
    """What one run gets."""

    points: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    status: tuple[RunStatus, int | None] | None = None
    """With the end, in milliseconds of Unix time."""


@dataclass(frozen=True)
class NewRun:
    """What a run is created with."""

    name: str
    start_ms: int
    tags: dict[str, str]


def ms(time: float) -> int:
    """Return milliseconds of Unix time, as MLflow counts."""
    return round(time * 1000)


def clean(name: str) -> str:
    """Return the name with what MLflow refuses in names as `_`."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def shorten(value: Any) -> str:
    """Return a param's value as text that MLflow keeps whole."""
    text = str(value)
    mark = " … (cut; whole in sweep.json of the sweep's run)"
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - len(mark)] + mark


def color(trial: str) -> str:
    """Return a color of its own for each trial; MLflow's default gives many the same."""
    number = int(re.sub(r"\D", "", trial) or 0)
    rgb = colorsys.hls_to_rgb(number * GOLDEN % 1, (0.38, 0.5, 0.62)[number % 3], 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
