"""Amounts in words: `3 trials`, `1.2 GB`, `2h 5m`.

Pure; used in every process. It must not know what is counted or measured.
"""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 trial`, `0 trials`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Return seconds in readable form: `45s`, `3m 20s`, `2h 5m`, `3d 4h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def size(count: float) -> str:
    """Return a number of bytes in readable units: `388 kB`, `1.2 GB`."""
    for unit, one in (("GB", 1e9), ("MB", 1e6)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
