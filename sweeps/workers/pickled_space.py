"""The search space as bytes for the workers, and back.

Created in the sweep process, and opened in a worker at the start of each job. It must not know what
is in a space.

If a space has a file, only values are sent: the worker imports the sweep's copy of the code and
sets the fields of the builder that it finds there. A space that was created in Python has no copy.
Its functions and classes are sent by value, with the globals that they use.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ray import cloudpickle

from sweeps.errors import UserError
from sweeps.space.loading import LoadedSpace, load_copy
from sweeps.space.search_space import SearchSpace
from sweeps.workers.isolation import own_modules

_CACHE = type(functools.lru_cache(lambda: None))


def pickled(loaded: LoadedSpace, space: SearchSpace) -> bytes:
    """Return a space as bytes.

    Args:
        loaded: The space as its file defines it.
        space: The space as it will run.

    Raises:
        UserError: Names what cannot be sent.
    """
    space = dataclasses.replace(space, constraints=())  # run only in the sweep process
    values, file = None, None
    own, now = loaded.space.builder, space.builder
    if loaded.file is not None:
        file = str(loaded.file.relative_to(loaded.root))
        same = now.own is own.own and not now.makes_arguments  # a script may have located its files
        if same or (now.has_fields and type(now.own) is type(own.own)):
            # Values that cannot be pickled, such as a lock, are recreated when a worker imports the
            # file.
            values = {
                key: value
                for key, value in now.values.items()
                if value is not own.values[key] or _reason(value) is None
            }
            space = dataclasses.replace(space, build_trainer=_set_in_the_worker)
    try:
        content = _pickle((space, values))
    except Exception as error:
        raise UserError(list(_problems(space, values)) or str(error), loaded.where) from None
    return pickle.dumps((file, loaded.dotted, str(loaded.root), now.script_file, content))


def opened(data: bytes, code: Path) -> SearchSpace:
    """Return the space, with the user's code imported.

    Args:
        data: What `pickled` returned.
        code: The sweep's copy of the code.
    """
    file, dotted, root, _, content = pickle.loads(data)
    # First, since the values may belong to classes that only this code defines.
    loaded = load_copy(code, file, dotted) if file is not None else None
    space: SearchSpace
    space, values = pickle.loads(content)
    builder = space.builder
    if loaded is not None and values is not None:
        builder = loaded.space.builder.with_values(values)
    return dataclasses.replace(space, build_trainer=builder.moved(Path(root), code).own)


def root_of(data: bytes) -> Path:
    """Return the folder that the imports of a pickled space started from where it was defined."""
    _, _, root, _, _ = pickle.loads(data)
    return Path(root)


def import_libraries(data: bytes, code: Path) -> None:
    """Import the libraries that the space's file and its neighbours import at the top level.

    Also import those that a script imports anywhere, since it runs completely.

    Args:
        data: What `pickled` returned.
        code: The sweep's copy of the code.
    """
    file, _, root, script, _ = pickle.loads(data)
    if file is not None:
        own_modules.import_libraries(code, code / file)
    if script is not None:
        copied = code / os.path.relpath(script, root)  # a library's script is not copied
        own_modules.import_libraries(code, copied if copied.is_file() else script, everywhere=True)


def _set_in_the_worker() -> None:
    """Stand in for the builder that the space's file creates."""


class _Pickler(cloudpickle.CloudPickler):
    """A pickler that stores modules of any type by name, and refuses caches that would be lost."""

    def reducer_override(self, obj: object) -> Any:
        if (
            isinstance(obj, ModuleType)
            and type(obj) is not ModuleType  # such as `torch.backends.cudnn` (cloudpickle 3.1)
            and sys.modules.get(obj.__name__) is obj
        ):
            return importlib.import_module, (obj.__name__,)
        if isinstance(obj, _CACHE) and _by_value(str(getattr(obj, "__module__", ""))):
            raise pickle.PicklingError("a functools cache cannot be sent to another process")
        return super().reducer_override(obj)


def _by_value(module: str) -> bool:
    """Tell whether the contents of a module are sent by value."""
    known = {"__main__", *cloudpickle.list_registry_pickle_by_value()}
    return not known.isdisjoint((module, module.partition(".")[0]))


def _pickle(value: object) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def _reason(value: object) -> str | None:
    """Return why a value cannot be sent; None if it can."""
    try:
        _pickle(value)
    except Exception as error:
        return str(error)
    return None


def _problems(space: SearchSpace, values: dict[str, Any] | None) -> Iterator[str]:
    """Yield a line for each value or global that cannot be sent to the workers."""
    for key, value in space.fixed.items():
        if reason := _reason(value):
            yield f"fixed[{key!r}] = {value!r:.60}: cannot be sent to the workers: {reason}"
    for key, value in (space.builder.values if values is None else values).items():
        if reason := _reason(value):
            yield f"{key} = {value!r:.60}: cannot be sent to the workers: {reason}"
    for name, value in _globals(space.build_trainer, set()):
        if reason := _reason(value):
            yield (
                f"{name} = {value!r:.60}: this global cannot be sent to the workers: {reason};"
                " create it inside the function, or move the space to a file of its own"
            )


def _globals(owner: Any, met: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the globals and closed-over values of code that is sent by value, by name."""
    if id(owner) in met:
        return
    met.add(id(owner))
    if isinstance(owner, functools.partial):
        yield from _globals(owner.func, met)
    function = inspect.unwrap(owner) if callable(owner) else owner
    if isinstance(function, FunctionType):
        used = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
        found = [(name, used[name]) for name in sorted(_names(function.__code__) & used.keys())]
    elif isinstance(owner, type):
        found = list(vars(owner).items())
    elif callable(owner) and _by_value(type(owner).__module__):
        found = [(type(owner).__name__, type(owner))]
    else:
        return
    for name, value in found:
        inner: Callable[..., Any] = getattr(value, "__func__", value)
        code = isinstance(inner, FunctionType | type | functools.partial)
        if code and _by_value(str(getattr(inner, "__module__", ""))):
            yield from _globals(inner, met)
        elif not name.startswith("__"):
            yield name, value


def _names(code: CodeType) -> set[str]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*map(_names, inner))
