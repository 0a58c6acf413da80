"""`sweeps list`: the available search spaces.

Reads their files and imports none of them.
"""

from __future__ import annotations

from sweeps.cli.console import console
from sweeps.secrets import redact
from sweeps.space.shipped import list_spaces


def list_() -> None:
    """List the search spaces in ./search_spaces and the shipped ones."""
    spaces = list_spaces()
    width = max(map(len, spaces), default=0)
    marks = max((len(space.mark) for space in spaces.values()), default=0)
    for name, space in spaces.items():
        line = f"{name:<{width}}  {space.mark:<{marks}}  {redact(space.line)}"
        console.print(line, markup=False)
