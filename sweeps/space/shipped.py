"""The names of the available search spaces.

Runs on the command line. It reads files, and imports neither them nor Ray, to answer at once.
"""

from __future__ import annotations

import ast
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "search_spaces"
"""Folder of the spaces that are installed with the package."""


def list_spaces() -> dict[str, str]:
    """Return the spaces of `./search_spaces` and the shipped ones: name to first docstring line.

    Nothing is imported.
    """
    found: dict[str, str] = {}
    for folder in (SHIPPED, Path("search_spaces")):
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith("_"):
                try:
                    doc = ast.get_docstring(ast.parse(file.read_text())) or ""
                except (SyntaxError, ValueError) as error:
                    doc = f"cannot be read: {error}"
                found[file.stem] = doc.split("\n")[0]
    return found
