"""The user's own modules in a worker: each job imports them again, and sees no leftovers.

Runs in the workers, around each job. It must not know what the modules are for. Libraries stay
loaded: they are imported before the first job, because they change the process only on first
import.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from sweeps.space.user_code import is_own
from sweeps.workers.isolation.libraries import LIBRARIES

_STAY = LIBRARIES | {"sweeps", "__main__"}


def import_libraries(root: Path, file: Path, everywhere: bool = False) -> None:
    """Import the libraries that a file and its neighbours import at the top level.

    Args:
        root: The folder that its imports start from.
        file: The file.
        everywhere: Whether to import training libraries that it imports inside functions as well.
    """
    statements = [*_foreign_imports(root, file, set())]
    if everywhere:
        statements += _of_training(file)
    for statement in statements:
        with suppress(Exception):  # the job's own import will show the error
            exec(compile(ast.Module([statement], []), str(file), "exec"), {})


def forget(before: Collection[str]) -> frozenset[str]:
    """Forget the user's own modules; return their names.

    Args:
        before: The modules that were loaded before the first job.
    """
    new = {name: module for name, module in list(sys.modules.items()) if name not in before}
    # C code cannot be imported again, and the Python code around it must stay with it.
    stay = _STAY | {_top(name) for name, module in new.items() if _is_compiled(module)}
    own = [name for name, module in new.items() if _top(name) not in stay and _is_own(module)]
    for name in own:
        del sys.modules[name]
    return frozenset(own)


def outside(before: Collection[str], code: Path) -> dict[str, str]:
    """Return the digests of the user's own files that are not inside the sweep's copy.

    Args:
        before: The modules that were loaded before the first job.
        code: The copy.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in before or file is None or _top(name) in _STAY or not _is_own(module):
            continue
        if not Path(file).is_relative_to(code):
            with suppress(OSError):
                found[str(file)] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return found


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_compiled(module: ModuleType) -> bool:
    return str(getattr(module, "__file__", None)).endswith((".so", ".pyd"))


def _is_own(module: ModuleType) -> bool:
    """Tell whether a module is Python code, or a folder of it, outside any library."""
    file = getattr(module, "__file__", None)
    if file is None:  # a folder without `__init__.py`
        return any(map(is_own, getattr(module, "__path__", ())))
    return str(file).endswith(".py") and is_own(str(file))


def _foreign_imports(
    root: Path, file: Path, met: set[Path]
) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of modules that are not below the root."""
    met.add(file)
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):  # the importing code may handle this
        return
    for statement in _imports(body):
        names = [alias.name for alias in statement.names]
        base = root
        if isinstance(statement, ast.ImportFrom):
            if statement.level:
                base = file.parents[statement.level - 1]
            module = f"{statement.module}." if statement.module else ""
            names = [f"{module}{name}" for name in names]
        own = [each for name in names for each in _files(base, name)]
        for each in own:
            if each not in met:
                yield from _foreign_imports(root, each, met)
        if not own and base is root:
            yield statement


def _of_training(file: Path) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of the training libraries, anywhere in a file."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        if LIBRARIES.issuperset(map(_top, names)):
            yield node


def _imports(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run with a module, not those in functions or conditions."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.Try | ast.With):
            yield from _imports(statement.body)


def _files(base: Path, name: str) -> Iterator[Path]:
    """Yield the files that an import of a dotted name runs, if they are inside a folder."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        place = base.joinpath(*parts[:count])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                yield file
