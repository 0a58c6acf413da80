"""A free port for a server that this process is about to start.

Used in the sweep process and by `ui`. It must not know the server.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def held_port(host: str, port: int = 0) -> Iterator[int]:
    """Yield a port that the system picks for no other process until the context ends.

    A process that asks for this very port can still get it, unless it asks through this function.

    The port is bound, but nothing listens there. On Linux, a server that sets SO_REUSEADDR, as
    those of Ray and MLflow do, can still bind it and listen. Elsewhere, it is released at once.

    Args:
        host: The address to bind it at.
        port: The port; 0: any free one.

    Raises:
        OSError: The port is in use.
    """
    with ExitStack() as held:
        holder = held.enter_context(socket.socket())
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, port))
        found: int = holder.getsockname()[1]
        if sys.platform == "linux":
            # With SO_REUSEADDR, two processes can bind the same port until one listens. Only one
            # can bind an abstract socket, and it is gone when its process ends.
            claim = held.enter_context(socket.socket(socket.AF_UNIX))
            claim.bind(f"\0sweeps-port-{host}:{found}")
        else:
            holder.close()
        yield found
