"""The pace of the smoke run: seconds of a step or batch, without what is done only once.

Runs in a worker. It must not know what is timed.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence

import torch

TIMED = 4
"""Steps, and evaluation batches, that the smoke run times. The first warms up and compiles; with
`torch.compile` one of the others may compile again, once its lengths differ from the first's."""
ALIKE = 5
"""Times the shortest: what takes longer did something else, too."""


def now() -> float:
    """Return monotonic seconds after the GPU has finished its queued work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def pace(ends: Sequence[float]) -> float | None:
    """Return the mean seconds of a step or batch; None if most of them did something else, too.

    It is the mean, since they differ as the lengths of their texts do: the median would be too low.

    Args:
        ends: The time before the first, and the time after each.
    """
    seconds = [end - start for start, end in itertools.pairwise(ends)]
    if not seconds:
        return 0.0
    later, most = seconds[1:] or seconds, ALIKE * min(seconds)
    if statistics.median(later) > most:
        return None
    return statistics.fmean(one for one in later if one <= most)
