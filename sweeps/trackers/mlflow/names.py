"""Names, values, times and colors in the form that MLflow takes.

Used by the tracker's process. It must not know MLflow's client, nor events.
"""

from __future__ import annotations

import colorsys
import math
import re
from typing import Any

VALUE_LENGTH = 6000
"""Characters of a param that MLflow 3.17 keeps; it drops the rest without a word."""
GOLDEN = (math.sqrt(5) - 1) / 2


def ms(time: float) -> int:
    """Return Unix time in milliseconds, as MLflow counts."""
    return round(time * 1000)


def clean(name: str) -> str:
    """Return the name with the characters that MLflow refuses as `_`."""
    return re.sub(r"[^\w\-. :/]", "_", name)


def shorten(value: Any) -> str:
    """Return a param's value as a text that MLflow does not cut."""
    text = str(value)
    mark = " … (cut; whole in sweep.json of the sweep's run)"
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - len(mark)] + mark


def color(trial: str) -> str:
    """Return a color for each trial; those that MLflow gives repeat."""
    number = int(re.sub(r"\D", "", trial) or 0)
    rgb = colorsys.hls_to_rgb(number * GOLDEN % 1, (0.38, 0.5, 0.62)[number % 3], 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
