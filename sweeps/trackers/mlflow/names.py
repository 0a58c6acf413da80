"""Names, values, times and colors in the form that MLflow accepts.

Used by the tracker's process. It must not know MLflow's client, nor events.
"""

from __future__ import annotations

import colorsys
import hashlib
import math
import posixpath
import re
from typing import Any

NAME_LENGTH = 250
"""Maximum number of characters that MLflow 3.17 accepts in a name."""
VALUE_LENGTH = 6000
"""Maximum number of characters that MLflow 3.17 keeps of a param; it silently drops the rest."""
GOLDEN = (math.sqrt(5) - 1) / 2


def ms(time: float) -> int:
    """Return Unix time in milliseconds, as MLflow counts."""
    return round(time * 1000)


def clean(name: str, longest: int = NAME_LENGTH) -> str:
    """Return the name, or a similar one that MLflow accepts, ending in a hash of the name.

    Different names stay different, and a name becomes the same in every sweep.
    """
    similar = re.sub(r"[^\w\-. :/]", "_", name)
    if posixpath.normpath(similar) != similar or similar.startswith(("/", ".")):
        similar = f"_{similar.replace('/', '_')}"  # MLflow may use it as a path
    if similar == name and len(name) <= longest:
        return name
    mark = f"-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    return similar[: longest - len(mark)] + mark


def model_name(name: str) -> str:
    """Return the name with `_` for the characters that MLflow rejects in a model's name."""
    return re.sub(r"[./:%\"']", "_", name)


def shorten(value: Any) -> str:
    """Return a param's value as text that MLflow does not truncate."""
    text = str(value)
    mark = " … (truncated; the full value is in sweep.json of the sweep's run)"
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - len(mark)] + mark


def color(trial: str) -> str:
    """Return a color for a trial; MLflow's own colors repeat."""
    number = int(re.sub(r"\D", "", trial) or 0)
    rgb = colorsys.hls_to_rgb(number * GOLDEN % 1, (0.38, 0.5, 0.62)[number % 3], 0.65)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
