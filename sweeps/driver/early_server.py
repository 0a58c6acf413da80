"""A head start for the process server: it starts before this process imports the libraries.

Runs in the sweep process, before it imports Ray or torch. This module must not import them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sweeps.driver.asked_address import asked_address
from sweeps.driver.worker_variables import worker_variables
from sweeps.hash_seed import has_hash_seed
from sweeps.workers.processes.process_server import early_process_server


@contextmanager
def head_start(address: str | None, *, in_program: bool = False) -> Iterator[None]:
    """Start the process server now if the sweep will start a local Ray instance, which can use it.

    Args:
        address: The Ray cluster to join; None: `RAY_ADDRESS`, or else a local Ray instance.
        in_program: Whether the sweep runs in somebody's program or notebook, so that the server
            must not be forked from it.
    """
    ray = sys.modules.get("ray")
    joins = asked_address(address) is not None
    if sys.platform != "linux" or joins or (ray is not None and ray.is_initialized()):
        yield
        return
    alone = len(os.listdir("/proc/self/task")) == 1  # no other threads
    forks = not in_program and alone and has_hash_seed()
    with early_process_server(worker_variables(), forks=forks):
        yield
