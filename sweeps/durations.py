"""Durations as people write them: `90s`, `1h30m`.

Pure; used in every process. It must not know what a duration limits.
"""

from __future__ import annotations

import re
from datetime import timedelta

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
"""Seconds of each unit, the longest first."""


def parse_duration(text: str) -> timedelta:
    """Return the time for a text such as `90s`, `1h30m` or `2d`.

    Raises:
        ValueError: The text is not a duration, or is longer than a `timedelta` can be.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        raise ValueError(f"{text!r} has no unit; write {text}s, {text}m, {text}h or {text}d")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 90s, 30m, 1h30m or 2d")
    try:
        return timedelta(seconds=sum(float(n) * UNITS[u] for n, u in parts))
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None


def written(time: timedelta) -> str:
    """Return a duration as `parse_duration` reads it: 90 s is `1m30s`."""
    left, text = time.total_seconds(), ""
    for unit, seconds in UNITS.items():
        if unit != "s":
            whole, left = divmod(left, seconds)
            text += f"{whole:g}{unit}" if whole else ""
    return f"{text}{left:g}s" if left or not text else text
