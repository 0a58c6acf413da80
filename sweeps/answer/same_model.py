"""Is an exported model the one that its trial reported? Two evaluations are compared.

Pure. It must not know how either was made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.answer.row_noise import comparable, only_right_in
from sweeps.errors import SweepError
from sweeps.report import Report

ELSEWHERE = 0.01
"""Share of its value that the judged metric may differ by: on other hardware, in another precision,
or where it is not known whether both saw the same rows."""
ALIKE = 5e-3
"""Share that a loss may differ by on the same rows and the same kind of GPU, or in 16 bits."""
IN_32_BITS = 1e-5
"""Share that a loss may differ by on the same rows, on CPUs in 32 bits: sums in another order."""
ROWS = 0.01
"""Share of rows that may turn from right to wrong or back on the same kind of device."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what a trial was evaluated, and its export again."""

    devices: str | None
    """Kinds of the devices when the trial was evaluated, as `SweepStarted` has them."""
    workers: int
    """Of the trial: with several, HF's own loss is a mean over other batches."""
    device: str
    """Of the export: the GPU's name, or `CPU`."""
    bits: int
    """Its precision: 32, or 16 if not all of it is in 32."""

    @property
    def loss_tolerance(self) -> float | None:
        """Share that a loss may differ by on the same rows; None: the devices differ in kind."""
        # Ray's label of a GPU is words of its name: `RTX-A6000` of `NVIDIA RTX A6000` (2.60).
        words = re.split(r"[\s-]+", self.device)
        if not self.devices or not {*self.devices.split("-")} <= {*words}:
            return None
        return IN_32_BITS if (self.device, self.bits) == ("CPU", 32) else ALIKE


def check_same_model(
    best: Report, again: Report, metric: str, conditions: Conditions
) -> Mapping[str, float]:
    """Compare the report that a checkpoint was saved at with what its export gives.

    The judged metric alone would not see an adapter that does nothing, on a task where its base
    model is about as good. So losses are compared more closely, and rows one by one, where both
    models judged the same rows on the same kind of device.

    Returns:
        The share that each compared metric was allowed to differ by.

    Raises:
        SweepError: They differ; it names both numbers.
    """
    tolerances = {metric: ELSEWHERE}
    close = conditions.loss_tolerance if comparable([best, again]) else None
    if close is not None and best.row_parts and metric.endswith(("loss", "perplexity")):
        tolerances[metric] = close  # the mean over its rows, however they are batched
    if close is not None and conditions.workers == 1:
        tolerances |= {
            name: close
            for name in best.metrics
            if name.endswith("loss") and name in again.metrics and math.isfinite(best.metrics[name])
        }
    for name, tolerance in tolerances.items():
        reported, found = best.metrics[name], again.metrics[name]
        if not math.isclose(found, reported, rel_tol=tolerance, abs_tol=1e-6):
            raise _other(
                best.trial,
                f"its {name} is {found:.8g}, not {reported:.8g} (a difference of"
                f" {in_percent(tolerance)} is allowed)",
            )
    pair = only_right_in(best, again)
    if close is not None and pair is not None and best.eval_rows:
        allowed = max(1, int(ROWS * best.eval_rows))
        if sum(pair) > allowed:
            raise _other(
                best.trial,
                f"of {best.eval_rows} rows, {pair[0]} that were right are now wrong, and {pair[1]}"
                f" that were wrong are now right (at most {allowed} such rows are allowed)",
            )
    return tolerances


def in_percent(share: float) -> str:
    """Return a tolerance as people write it: `1%`, `0.001%`."""
    return f"{100 * share:g}%"


def _other(trial: str, how: str) -> SweepError:
    return SweepError(
        f"the exported model does not match what {trial} reported: evaluated again, {how}\n"
        "  if its evaluation draws random numbers, or ran on hardware with another precision,"
        " pass --no-evaluate to export it without this check"
    )
