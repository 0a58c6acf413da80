"""Losing another rank: how to recognise the errors of those that are left.

Runs in a worker. It must not know which rank was lost, or why.
"""

from __future__ import annotations

import torch.distributed as dist
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError

from sweeps.workers.saving.sharded_states import OtherRankFailed

_TYPES = (
    OtherRankFailed,
    # The store of a process group, in which ranks find each other, is in the process of rank 0.
    dist.DistNetworkError,
    dist.DistStoreError,
    # A process of Ray Data, or rows that were on a lost node.
    RayActorError,
    ObjectLostError,
    NodeDiedError,
)
_WORDS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection timed out",
    "Connection was likely closed",
    "No route to host",
    "Broken pipe",
    "NCCL",
    "Timed out waiting",
    "application timeout",
)
"""Messages of gloo, NCCL and the store as a plain RuntimeError (torch 2.11 to 2.13)."""


def lost_peer(error: BaseException) -> bool:
    """Tell whether a rank has only lost another one, which is then the cause."""
    return isinstance(error, _TYPES) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
    )
