"""What each row adds to a metric, as a report keeps it and as it is compared.

It is kept for a metric that is a ratio of two sums over rows: a mean loss (losses / rows), a loss
per word (losses / words), an F1 of entities (twice the hits / predicted plus labelled entities). It
is written in a worker and read wherever an answer is computed. It must not know how rows are
judged.
"""

from __future__ import annotations

import base64
import math
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sweeps.report import Report, alike

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]

MOST = 2_000
"""Maximum number of values kept per report; with more rows, each value stands for several
neighbouring rows."""
EXPONENTIAL = "exp"
"""Marks that the metric is the exponential of the ratio."""
LIKE = 1e-4
"""Relative difference that is allowed between a metric and what its rows add up to."""


def pack(parts: Any, weights: Any, labels: str, value: float) -> str | None:
    """Return the rows of a metric as `Report.row_parts`; None if they do not add up to its value.

    Args:
        parts: What each row adds to the numerator (rows,).
        weights: What it adds to the denominator (rows,).
        labels: A checksum of the rows' labels.
        value: The metric: the ratio of the sums, or its exponential.
    """
    import numpy as np

    upper, lower = float(np.sum(parts)), float(np.sum(weights))
    if not lower:
        return None
    ratio = upper / lower
    if math.isclose(ratio, value, rel_tol=LIKE):
        kind = ""
    elif ratio < 700 and math.isclose(math.exp(ratio), value, rel_tol=LIKE):
        kind = EXPONENTIAL
    else:
        return None
    kept = min(len(parts), MOST)
    starts = np.arange(kept) * len(parts) // kept
    share = kept / len(parts)  # the same factor for all, so the ratio of the sums stays
    both = np.stack([np.add.reduceat(each, starts) * share for each in (parts, weights)])
    with np.errstate(over="ignore"):
        small = both.astype(np.float16)
    if not np.isfinite(small).all():
        return None
    return f"{labels}:{kind}:{base64.b64encode(zlib.compress(small.tobytes())).decode()}"


def labels_of(report: Report) -> str | None:
    """Return what identifies the rows behind a report's metric; None if not known."""
    kept = report.right_rows or report.row_parts
    return f"{report.eval_rows}:{kept[: kept.index(':')]}" if kept else None


def row_values(report: Report) -> Numbers | None:
    """Return a value for each row of a report, whose mean is its metric; None if not known.

    To first order (the delta method), the metric of other rows of the same kind is the mean of
    their values. So the spread of these values gives the error of the metric.
    """
    import numpy as np

    if report.right_rows and report.eval_rows:
        bits = np.frombuffer(bytes.fromhex(report.right_rows.split(":")[1]), np.uint8)
        return np.unpackbits(bits)[: report.eval_rows].astype(np.float64)
    return _unpacked(report.row_parts) if report.row_parts else None


def spread(values: Numbers) -> float:
    """Return the sample standard deviation of values; 0 if they differ only in rounding."""
    ends = float(values.min()), float(values.max())
    return 0.0 if alike(ends) else float(values.std(ddof=1))


@lru_cache(maxsize=2)  # one trial is compared with many
def _unpacked(row_parts: str) -> Numbers:
    import numpy as np

    _, kind, packed = row_parts.split(":")
    small = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.float16)
    parts, weights = small.astype(np.float64).reshape(2, -1)
    ratio = parts.sum() / weights.sum()
    values: Numbers = ratio + (parts - ratio * weights) / weights.mean()
    if kind == EXPONENTIAL:
        values = np.exp(ratio) * (1 + values - ratio)
    return values
