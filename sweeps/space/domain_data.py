"""A domain as plain data, for recording, printing or plotting what a sweep tunes.

Pure, and does not import Ray: readers of a finished sweep use it. It must not know how a value is
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.secrets import FREE_TEXT

Kind = Literal["float", "int", "choice"]


@dataclass(frozen=True, kw_only=True)
class DomainData:
    """One domain of a tuned key; as a string, the call that creates it."""

    kind: Kind
    """The kind of value: a real number, an integer, or one of `choices`."""
    lower: int | float | None = None  # an integer must be read back as one
    """Lower bound of a range; None for a choice."""
    upper: int | float | None = None
    """Upper bound of a range; exclusive for integers without a quantum, as in `randint`."""
    log: bool = False
    """Whether a range is drawn on a log scale."""
    quantum: int | float | None = None
    """Values of a range are rounded to multiples of this, within the bounds; None: no rounding."""
    choices: Sequence[Any] = field(default=(), metadata=FREE_TEXT)
    """The values of a choice, as stored in JSON."""
    condition: Mapping[str, Any] = field(default_factory=dict, metadata=FREE_TEXT)
    """Keys with the values they must have for this domain to be active; all of them must match."""

    def __str__(self) -> str:
        if self.kind == "choice":
            text = f"choice({list(self.choices)!r})"
        else:
            name = range_name(self.kind, log=self.log, quantized=self.quantum is not None)
            quantum = "" if self.quantum is None else f", {self.quantum!r}"
            text = f"{name}({self.lower!r}, {self.upper!r}{quantum})"
        return f"{text} when {condition_text(self.condition)}" if self.condition else text


def range_name(kind: Kind, *, log: bool, quantized: bool) -> str:
    """Return the name of the Ray function that creates such a range, such as `qloguniform`."""
    return "q" * quantized + "log" * log + ("randint" if kind == "int" else "uniform")


def condition_text(condition: Mapping[str, Any]) -> str:
    """Return the condition as text, such as `optim = 'sgd' and nesterov = True`."""
    return " and ".join(f"{key} = {value!r}" for key, value in condition.items())
