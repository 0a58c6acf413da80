"""The pace of the smoke run: seconds per step or batch, without one-time work.

Runs in a worker. It must not know what is timed.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence

import torch

TIMED = 4
"""Number of steps, and of evaluation batches, that the smoke run times. The first one warms up and
compiles; with `torch.compile` another one may recompile if its lengths differ."""
ALIKE = 5
"""A step or batch that takes longer than this multiple of the shortest one also did something else,
such as compile."""


def now() -> float:
    """Wait until the GPU has finished its queued work, and return monotonic seconds."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def pace(ends: Sequence[float]) -> float | None:
    """Return the mean seconds of a step or batch, without those that also did something else.

    None if most of them did something else. The mean, not the median: steps take longer with longer
    texts, and the few long ones count in the total.

    Args:
        ends: The time before the first one, and the time after each one.
    """
    seconds = [end - start for start, end in itertools.pairwise(ends)]
    if not seconds:
        return 0.0
    later, most = seconds[1:] or seconds, ALIKE * min(seconds)
    if statistics.median(later) > most:
        return None
    return statistics.fmean(one for one in later if one <= most)
