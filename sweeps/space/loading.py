"""Finds a search space by name, module or file, and a factory by `module:factory`.

Runs wherever a space is opened: in the sweep process, in a worker and in the model process. It must
not check the space: `checks.py` does.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ray.tune.search import sample

from sweeps.errors import UserError
from sweeps.naming import nearest, unknown
from sweeps.space.domains import call_problem
from sweeps.space.mistakes import mistake
from sweeps.space.no_command_line import without_command_line
from sweeps.space.no_training import without_training
from sweeps.space.search_space import SearchSpace
from sweeps.space.shipped import SHIPPED, list_spaces
from sweeps.space.user_code import ended_process, shown


@dataclass(frozen=True)
class LoadedSpace:
    """A search space and the code it needs."""

    space: SearchSpace
    name: str
    """The last part of its module name."""
    file: Path | None
    """None for a space that was created in Python and has no file."""
    root: Path
    """Folder that its imports start from; on `sys.path` here and in the workers."""
    folder: Path | None
    """Folder that is sent to the workers, see `code_copy.py`; None: only the space itself."""
    text: str | None = None
    """The text of its file, if the file exists only in the sweep's copy of the code."""

    @property
    def dotted(self) -> bool:
        """Whether it was loaded as a dotted module below its root."""
        return self.folder != self.root

    @property
    def where(self) -> str:
        """The place to name in messages, such as `search_spaces/bert_yelp.py: SEARCH_SPACE`."""
        if self.text is not None:
            return f"the search space of {self.space.builder.name}"
        if self.file is None:
            return "the search space"
        return f"{shown(self.file)}: SEARCH_SPACE"


def load_space(name: str) -> LoadedSpace:
    """Load a space by its name in `search_spaces/`, as a dotted module, or from a `.py` file.

    Raises:
        UserError: There is no such space, or its file has no `SEARCH_SPACE`.
    """
    if name.endswith(".py"):
        file = Path(name).resolve()
        if not file.is_file():
            raise UserError(f"no such file: {name}")
        text = file.read_bytes()
        if b".train(" in text and b"SEARCH_SPACE" not in text:
            raise _no_space(file)  # a training script, which would start training here
        return _from_file(file)
    for folder in (Path("search_spaces"), SHIPPED):
        file = (folder / f"{name}.py").resolve()
        if file.is_file() and "." not in name:
            return _from_file(file)
    if "/" in name or name.startswith("."):
        raise UserError(f"no search space {name!r}; pass its name or the path of its .py file")
    if "." in name:
        return _from_module(name, Path.cwd())
    names = sorted(list_spaces())
    known = f"{', '.join(names)}, any dotted module or .py file"
    raise UserError(unknown("search space", name, names, known=known))


def load_copy(code: Path, file: str, dotted: bool) -> LoadedSpace:
    """Load a sweep's own copy of a space.

    Args:
        code: The sweep's `code/`, which replaces the folder that its imports start from.
        file: The space's file, relative to that folder.
        dotted: Whether it was loaded as a dotted module.

    Raises:
        UserError: See `load_space`.
    """
    if not dotted:
        return dataclasses.replace(_from_file(code / file), root=code, folder=code)
    return _from_module(".".join(Path(file).with_suffix("").parts), code)


def load_factory(text: str, root: Path, field: str) -> Callable[..., Any]:
    """Load the factory that a field such as `searcher` names as `module:factory`.

    The module is looked up in the space's root first, then in the environment. A module below the
    root is executed again on each call, so that a resume runs the sweep's own copy even in a
    process that has imported the original.

    Args:
        text: The value of the field.
        root: The space's root, `LoadedSpace.root`; on a resume, the sweep's copy of the code.
        field: The name of the field, for messages.

    Raises:
        UserError: The text has another form, or the module or callable does not exist.
    """
    name, _, attribute = text.partition(":")
    where = f"{field} = {text!r}"
    if not (all(map(str.isidentifier, name.split("."))) and attribute.isidentifier()):
        raise UserError("must have the form module:factory", where)
    place = root.joinpath(*name.split("."))
    file = next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)
    parents = [name.rsplit(".", level)[0] for level in range(name.count(".") + 1)]
    callers = {key: sys.modules.pop(key) for key in parents if file and key in sys.modules}
    importlib.invalidate_caches()
    sys.path.insert(0, str(root))
    try:
        with _imported():
            module = importlib.import_module(name)
    except Exception as error:
        if (missing := _missing(error, name)) is not None:
            raise UserError(
                f"no module named {missing!r}, neither in {root} nor in the environment",
                where,
            ) from None
        raise mistake(error, file or Path(name)) or error from None
    finally:
        sys.path.remove(str(root))
        sys.modules.update(callers)
    factory = getattr(module, attribute, None)
    if factory is None:
        names = [key for key, value in vars(module).items() if callable(value)]
        raise UserError(f"{name} has no {attribute!r}{nearest(attribute, names)}", where)
    if not callable(factory):
        raise UserError(f"{attribute} = {factory!r} is not callable", where)
    return factory  # type: ignore[no-any-return]


def _from_file(file: Path) -> LoadedSpace:
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(f"sweeps_space_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        with _imported():
            spec.loader.exec_module(module)
    except Exception as error:
        raise mistake(error, file) or _refused_by_ray(error, file) or error from None
    return _loaded(module, file.stem, file, file.parent, file.parent)


def _from_module(name: str, base: Path) -> LoadedSpace:
    sys.path.insert(0, str(base))
    top = name.split(".")[0]
    try:
        with _imported():
            module = importlib.import_module(name)
    except Exception as error:
        if (missing := _missing(error, name)) is not None:
            raise UserError(
                f"no search space {name!r}: no module named {missing!r}, neither in {base} nor in"
                " the environment"
            ) from None
        found = importlib.util.find_spec(name)
        file = Path(str(found.origin)) if found is not None else Path(name)
        raise mistake(error, file) or _refused_by_ray(error, file) or error from None
    file = Path(str(module.__file__)).resolve()
    root = file.parents[len(name.split(".")) - 1]
    return _loaded(module, name.rsplit(".", 1)[-1], file, root, root / top)


@contextmanager
def _imported() -> Iterator[None]:
    """Import the user's code, which must not read the command line, end the process, or train."""
    try:
        with without_command_line(), without_training():
            yield
    except SystemExit as error:
        raise ended_process(error) from None


def _missing(error: Exception, name: str) -> str | None:
    """Return the part of a module's name that does not exist; None if the error is another one."""
    part = error.name if isinstance(error, ModuleNotFoundError) else None
    return part if part is not None and f"{name}.".startswith(f"{part}.") else None


def _refused_by_ray(error: Exception, file: Path) -> UserError | None:
    """Return all problems with the domains in a file if Ray rejected one of them, else None.

    Ray raises an error for the first one; the others are found in the text of the file.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if Path(frames[-1].filename) != Path(str(sample.__file__)):
        return None
    problems = [
        f"line {node.lineno}: {ast.unparse(node)}: {problem}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and (problem := call_problem(node))
    ]
    if not problems:  # the bounds are not literals
        lines = [frame.lineno for frame in frames if Path(frame.filename) == file]
        place = f"line {lines[-1]}: " if lines else ""
        problems = [f"{place}Ray rejects the domain: {str(error).splitlines()[0]}"]
    return UserError(problems, str(shown(file)))


def _loaded(module: ModuleType, name: str, file: Path, root: Path, folder: Path) -> LoadedSpace:
    space = getattr(module, "SEARCH_SPACE", None)
    if not isinstance(space, SearchSpace):
        raise _no_space(file)
    return LoadedSpace(space=space, name=name, file=file, root=root, folder=folder)


def _no_space(file: Path) -> UserError:
    return UserError(
        "defines no SEARCH_SPACE of type sweeps.SearchSpace; to tune a training script, add"
        " --metric and --tune",
        str(file),
    )
