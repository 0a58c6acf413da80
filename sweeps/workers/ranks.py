"""Gives each rank of a worker group what all of them have found.

Runs in the workers. It must not know what is compared.
"""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def of_all_ranks(value: T) -> list[T]:
    """Return the values of all ranks, by rank; every rank must call this at the same point."""
    if not dist.is_initialized():
        return [value]
    values = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
