"""The names of the available search spaces, and whether a string names one.

Runs on the command line, and wherever a space is named. To answer at once, it reads files without
importing them, and must not import Ray.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SHIPPED = Path(__file__).parents[2] / "search_spaces"
"""Folder of the spaces that are installed with the package."""


Mark = Literal["own", "shipped", "shadows a shipped one", "broken"]
"""Where a space comes from, or what is wrong with it."""


@dataclass(frozen=True)
class ListedSpace:
    """A search space as its file describes it."""

    line: str
    """The first line of its docstring, or why the file cannot be read."""
    mark: Mark


def list_spaces() -> dict[str, ListedSpace]:
    """Return the spaces in `./search_spaces` and the shipped spaces, by name.

    Nothing is imported.
    """
    found: dict[str, ListedSpace] = {}
    for folder in (SHIPPED, Path("search_spaces")):
        shipped = folder.resolve() == SHIPPED.resolve()
        for file in sorted(folder.glob("*.py")):
            if file.name.startswith("_"):
                continue
            try:
                doc = ast.get_docstring(ast.parse(file.read_text(), str(file))) or ""
            except (SyntaxError, ValueError) as error:
                found[file.stem] = ListedSpace(f"cannot be read: {error}", "broken")
                continue
            own: Mark = "shadows a shipped one" if file.stem in found else "own"
            found[file.stem] = ListedSpace(doc.split("\n")[0], "shipped" if shipped else own)
    return found


def names_space(text: str) -> bool:
    """Tell whether a space has this name, or is defined in this `.py` file or module.

    A module is looked up in the working folder first, then where Python imports from.
    """
    file = Path(text) if text.endswith(".py") else _module_file(text)
    return text in list_spaces() or (
        file is not None and file.is_file() and b"SEARCH_SPACE" in file.read_bytes()
    )


def _module_file(name: str) -> Path | None:
    """Return where a module is defined; the packages around it are not imported."""
    top, *below = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # such as `__main__`
        spec = None
    installed = None if spec is None else spec.submodule_search_locations
    bases = [Path(folder, *below) for folder in (top, *(installed or ()))]
    files = [file for base in bases for file in (base / "__init__.py", Path(f"{base}.py"))]
    return next(filter(Path.is_file, files), None)
