"""Selects what a report contains of an evaluation's metrics: the numbers.

Runs in a worker, on every rank, and when an export is evaluated again. It must not know about
trials.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch.distributed as dist

from sweeps.errors import UserError
from sweeps.naming import nearest
from sweeps.texts import encodable


def of_rank_0(returned: Any) -> MutableMapping[str, Any]:
    """Return rank 0's metrics, unboxed, on every rank, since a trainer may compute some only there.

    Raises:
        UserError: On rank 0, the trainer's `evaluate` returned something other than metrics.
    """
    if isinstance(returned, MutableMapping):
        unbox(returned)  # a tensor would arrive at the other ranks on rank 0's GPU
    box = [returned]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    (metrics,) = box
    if not isinstance(metrics, MutableMapping):
        raise UserError(
            f"the trainer's evaluate() returned {metrics!r}; it must return a dict of numbers, such"
            " as the result of super().evaluate()"
        )
    return metrics


def unbox(metrics: MutableMapping[str, Any]) -> None:
    """Replace arrays and tensors of one number, such as `np.float32(0.5)`, with that number."""
    for name, value in metrics.items():
        if getattr(value, "ndim", None) == 0:
            metrics[name] = value.item()


def numbers_of(
    metrics: Mapping[str, Any], metric: str, logged: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """Return the metrics that are numbers.

    Args:
        metrics: What an evaluation returned.
        metric: The judged metric.
        logged: What the trainer has logged since the last report; HF keeps it in each checkpoint.

    Raises:
        UserError: The judged metric is not a number, is perhaps inside a value that is not a
            number, or is misspelt beside such a value; or HF cannot save what was logged.
    """
    returned = {encodable(str(name)): value for name, value in metrics.items() if name != "epoch"}
    numbers = {n: float(value) for n, value in returned.items() if isinstance(value, int | float)}
    others = {name: value for name, value in returned.items() if name not in numbers}
    available = f"available numbers: {', '.join(sorted(numbers)) or 'none'}"
    if others and metric not in numbers:
        around = (name for name in others if metric.startswith(f"{name}_"))
        inside = metric if metric in others else next(around, None)
        if inside is None and (meant := nearest(metric, sorted(numbers))):
            raise UserError(
                f"the evaluation returned no number named {metric!r}; {available}{meant}"
            )
        kinds = ", ".join(f"{name!r} is {_kind(value)}" for name, value in others.items())
        name = inside or next(iter(others))
        raise UserError(
            f"the evaluation returned no number named {metric!r}: {kinds};"
            f" {_advice(name, others[name])}; {available}"
        )
    for name, value in (item for entry in logged for item in entry.items()):
        try:
            json.dumps(value)
        except TypeError:
            raise UserError(
                f"metric {name!r} is {_kind(value)}, which HF cannot save in a checkpoint;"
                f" {_advice(name, value)}; {available}"
            ) from None
    return numbers


def _advice(name: str, value: Any) -> str:
    """Return advice on what to return in place of a value that is not a number."""
    if isinstance(value, Mapping) and value:
        inner = next(iter(value))
    elif isinstance(value, list | tuple) or getattr(value, "shape", None) is not None:
        inner = 0
    else:
        return "return a number"
    return f"return each of its numbers under a separate name, such as {f'{name}_{inner}'!r}"


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"an array of shape {tuple(shape)}"
    if isinstance(value, Mapping):
        return f"a dict with the keys {', '.join(repr(key) for key in value)}"
    return "None" if value is None else f"of type {type(value).__name__}"
