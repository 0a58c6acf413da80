"""A free port for a server that this process is about to start.

Used in the sweep process and by `ui`. It must not know the server.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port(host: str, port: int = 0) -> Iterator[int]:
    """Yield a port that the system picks for no other process until the context ends.

    A process that asks for this very port can still get it.

    The port is bound, but nothing listens there. On Linux, a server that sets SO_REUSEADDR, as
    those of Ray and MLflow do, can still bind it and listen. Elsewhere, it is released at once.

    Args:
        host: The address to bind it at.
        port: The port; 0: any free one.

    Raises:
        OSError: The port is in use.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, port))
        found: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield found
