"""Which Ray cluster is meant: the one that the config or `RAY_ADDRESS` states, or a new instance.

Runs in the sweep process. It must not import Ray: see `early_server.py`.
"""

from __future__ import annotations

import os


def asked_address(address: str | None) -> str | None:
    """Return the address that the config or RAY_ADDRESS states; None for a new local instance."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    return None if address == "local" else address
