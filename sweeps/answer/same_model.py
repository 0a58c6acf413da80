"""Compares two evaluations to tell whether an exported model is the one that its trial reported.

Pure functions. They must not know how either evaluation was made.
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
"""Relative difference allowed in the judged metric on other hardware, in another precision, or if
it is not known whether both saw the same rows."""
ALIKE = 5e-3
"""Relative difference allowed in a loss on the same rows and kind of GPU, or in 16 bits."""
IN_32_BITS = 1e-5
"""Relative difference allowed in a loss on the same rows, on CPUs in 32 bits (order of sums)."""
ROWS = 0.01
"""Share of rows that may change between right and wrong on the same kind of device."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions under which a trial, and later its export, were evaluated."""

    devices: str | None
    """Kinds of the devices when the trial was evaluated, as `SweepStarted` has them."""
    workers: int
    """Workers of the trial. With several, HF's own loss is a mean over other batches."""
    device: str
    """The device of the export: the GPU's name, or `CPU`."""
    bits: int
    """The precision of the export: 32, or 16 if any of it was not in 32 bits."""

    @property
    def loss_tolerance(self) -> float | None:
        """Relative difference allowed in a loss on the same rows; None on other kinds of
        devices."""
        # Ray's label for a GPU is made of words of its name: `RTX-A6000` for `NVIDIA RTX A6000`
        # (2.60).
        words = re.split(r"[\s-]+", self.device)
        if not self.devices or not {*self.devices.split("-")} <= {*words}:
            return None
        return IN_32_BITS if (self.device, self.bits) == ("CPU", 32) else ALIKE


def check_same_model(
    best: Report, again: Report, metric: str, conditions: Conditions
) -> Mapping[str, float]:
    """Compare the report at which a checkpoint was saved with the evaluation of its export.

    The judged metric alone would miss an adapter that does nothing on a task where its base model
    is about as good. So losses are compared more closely, and rows one by one, if both models were
    evaluated on the same rows and the same kind of device.

    Returns:
        The relative difference that was allowed in each compared metric.

    Raises:
        SweepError: The two differ; the message has both numbers.
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
                f"of {best.eval_rows} rows, {pair[0]} changed from right to wrong and {pair[1]}"
                f" from wrong to right (at most {allowed} may change)",
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
