"""Runs a function on other nodes, next to their workers.

Runs in the sweep process. It must not know what the function does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_S = 30.0
"""A node that does not answer within this time is left out."""

T = TypeVar("T")


def on_nodes(do: Callable[[], T], nodes: Iterable[str]) -> dict[str, T]:
    """Return the function's result from each of these nodes that answers, by node id."""
    task = ray.remote(do)
    asked = {
        node: task.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote()
        for node in nodes
    }
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    answers = {}
    for node, answer in asked.items():
        try:
            answers[node] = ray.get(answer, timeout=0)
        except ray.exceptions.RayError:  # the node is gone, or too slow
            ray.cancel(answer, force=True)
    return answers
