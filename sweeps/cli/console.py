"""The console, and how values look on it.

Runs in the sweep process and in every verb. It must not know what a value is for.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

WIDE = 200
"""Columns where there is no terminal: nothing is cut off in a file."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Say no more: a sweep must not end because nobody reads on (`| head`)."""
        self.quiet = True


console = _Console(
    file=sys.stdout,
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() else WIDE,
)
"""Bound to this stdout: while a sweep runs, Ray's own printing is sent to a file."""
errors = Console(file=sys.stderr, highlight=False, soft_wrap=True)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str | timedelta) -> timedelta:
    """Return the time that `90`, `90s`, `1h30m` or `2d` means; a bare number is seconds.

    Raises:
        ValueError: It means none.
    """
    if isinstance(text, timedelta):  # typer parses a flag's default, too
        return text
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return timedelta(seconds=float(text))
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 90s, 30m, 1h30m or 2d")
    return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in parts))


def duration(seconds: float) -> str:
    """Return seconds as people say them: `45s`, `3m 20s`, `2h 5m`, `3d 4h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def number(value: float | None) -> str:
    """Return a metric's value in four significant digits; `-` for None."""
    return "-" if value is None else f"{value:.4g}"


def one_line(params: Mapping[str, Any]) -> str:
    """Return params as `learning_rate=3e-05 warmup_steps=0.1`."""
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in params.items()
    )


def command(*words: str, storage: str) -> str:
    """Return a command line of ours, with `--storage` where it is not the default."""
    line = ["python", "-m", "sweeps", *words]
    if Path(storage).resolve() != Path("results").resolve():
        line += ["--storage", str(storage)]
    return shlex.join(line)
