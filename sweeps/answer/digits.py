"""How values look in a text or a table, and how many digits tell them apart.

Pure functions. They must not know what the values are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sweeps.report import DIGITS

USUAL = 4
"""Significant digits of a metric's value."""
BEST = 10
"""Values at the top of a long table that are told apart; of 1,000, some always are almost equal."""


def digits_to_tell_apart(values: Iterable[float | None], fewest: int = USUAL) -> int:
    """Return the significant digits with which all different values look different.

    Values that are the same in `DIGITS` digits are taken to be the same.

    Args:
        values: The values of one column; None for an empty cell.
        fewest: Digits that are shown in any case.
    """
    known = [value for value in values if value is not None]

    def looks(digits: int) -> int:
        return len({f"{value:.{digits}g}" for value in known})

    return next((n for n in range(fewest, DIGITS) if looks(n) == looks(DIGITS)), DIGITS)


def number(value: float | None, digits: int = USUAL) -> str:
    """Return a metric's value in significant digits; `-` for None."""
    return "-" if value is None else f"{value:.{digits}g}"


def span(low: float, high: float, digits: int = USUAL) -> str:
    """Return `0.8 to 0.9`, in at least so many significant digits, more if the ends need them."""
    digits = digits_to_tell_apart((low, high), digits)
    return f"{number(low, digits)} to {number(high, digits)}"


def percent(share: float) -> str:
    """Return a share of a trial as `50%`; only a whole one is `100%`."""
    texts = (f"{share:.{digits}%}" for digits in range(DIGITS))
    return next((text for text in texts if share >= 1 or float(text[:-1]) < 100), "100%")


def short(value: Any) -> str:
    """Return a param's value; a fraction in three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def one_line(params: Mapping[str, Any]) -> str:
    """Return params as `learning_rate=3e-05 warmup_steps=0.1`."""
    return " ".join(f"{key}={short(value)}" for key, value in params.items())
