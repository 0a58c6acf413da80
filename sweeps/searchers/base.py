"""What every searcher has in common: the trials of an earlier sweep that it is told at its start.

Pure. It must not know any searcher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class WarmStartTrial:
    """Params that an earlier sweep tried, and the value that they were judged by."""

    params: Mapping[str, Any]
    value: float
