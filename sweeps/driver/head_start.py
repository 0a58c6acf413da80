"""A head start for the process server: it imports libraries while this process still does so, too.

Runs in the sweep process, before it imports Ray or torch. It must not import them itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sweeps.driver.worker_variables import worker_variables
from sweeps.workers.process_server import early_process_server


@contextmanager
def head_start(address: str | None) -> Iterator[None]:
    """Start the process server now if the sweep will start a local Ray instance, which can use it.

    Args:
        address: The Ray cluster to join; None: `RAY_ADDRESS`, or else a local Ray instance.
    """
    ray = sys.modules.get("ray")
    joins = (address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    if sys.platform != "linux" or joins or (ray is not None and ray.is_initialized()):
        yield
        return
    with early_process_server(worker_variables()):
        yield
