"""A domain as plain data, for whoever records, prints or plots what a sweep tunes.

Pure, and imports no Ray: readers of a finished sweep use it. It must not know how a value is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeps.secrets import FREE_TEXT

Kind = Literal["float", "int", "choice"]


@dataclass(frozen=True, kw_only=True)
class DomainData:
    """One domain of a tuned key; its text is the call that makes it."""

    kind: Kind
    """What a value is: a real number, a whole number, or one of `choices`."""
    lower: float | None = None
    """Lowest value of a range; None for a choice."""
    upper: float | None = None
    """Upper bound of a range; excluded for whole numbers without a quantum, as in `randint`."""
    log: bool = False
    """Whether a range is drawn on a log scale."""
    quantum: float | None = None
    """Values of a range are rounded to multiples of it, within the bounds; None: all values."""
    choices: Sequence[Any] = field(default=(), metadata=FREE_TEXT)
    """The values of a choice, as JSON keeps them."""
    condition: Mapping[str, Any] = field(default_factory=dict, metadata=FREE_TEXT)
    """Key to the value it must have for this domain to be active; all must hold."""

    def __str__(self) -> str:
        if self.kind == "choice":
            text = f"choice({list(self.choices)!r})"
        else:
            name = range_name(self.kind, log=self.log, quantized=self.quantum is not None)
            quantum = "" if self.quantum is None else f", {self.quantum!r}"
            text = f"{name}({self.lower!r}, {self.upper!r}{quantum})"
        return f"{text} when {condition_text(self.condition)}" if self.condition else text


def range_name(kind: Kind, *, log: bool, quantized: bool) -> str:
    """Return the name of Ray's function that makes such a range: `qloguniform`."""
    return "q" * quantized + "log" * log + ("randint" if kind == "int" else "uniform")


def condition_text(condition: Mapping[str, Any]) -> str:
    """Return the condition as `optim = 'sgd' and nesterov = True`."""
    return " and ".join(f"{key} = {value!r}" for key, value in condition.items())
