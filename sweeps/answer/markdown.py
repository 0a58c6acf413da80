"""Tables in Markdown, for the model card and for a tracker's note.

Pure. It must not know what the cells mean.
"""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines; a `|` in a cell would end it, so it becomes a `/`."""
    lines = (head, ["---"] * len(head), *rows)
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines]
