"""What a job has changed in the training libraries: functions, methods, hooks and registries.

Runs in the workers. It must not know what a job does or what follows from a change.

It detects changes to:

- the functions, classes and descriptors in the modules of the libraries and in their classes
- the code and the defaults of those functions
- such objects in the dicts and lists of a module, a class, or an object in a module

A module that a job imports is recorded as soon as its own code has run, before the job can patch
it.

It does not detect changes to:

- numbers, strings and other data
- state in C++ (operators that `torch.library` registers)
- libraries that are not named here

These do not count as changes: wrappers that a library creates around its own functions, as torch
does when it compiles (`torch.no_grad()(function)`); a new registry entry, or a new method that
overrides nothing, since code that does not use the new name is not affected.
"""

from __future__ import annotations

import builtins
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.machinery import ModuleSpec
from operator import attrgetter, is_
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from sweeps.space.import_hook import ImportHook
from sweeps.space.user_code import code_parts

LIBRARIES = frozenset(
    {
        *("torch", "transformers", "accelerate", "peft", "trl", "datasets", "evaluate"),
        *("bitsandbytes", "deepspeed", "liger_kernel", "safetensors", "tokenizers"),
        *("numpy", "random", "math", "builtins"),
    }
)
_INTERNALS = ("__code__", "__defaults__", "__kwdefaults__")
_IMMUTABLE = 1 << 8
"""CPython's flag of a type whose attributes cannot be set."""
_CACHE = type(lru_cache(lambda: None))
_MISSING = object()


@dataclass(frozen=True)
class Change:
    """One thing that differs from its original state."""

    name: str
    """The name of what was changed, in a form that a reader can look up."""
    into: str
    """A text for what is there now, which is the same wherever the same code put it there."""
    undo: Callable[[], object]


@dataclass
class _Place:
    """A module, a class or a dict, with the code that it originally contained, by key."""

    name: str
    owner: Any
    entries: Mapping[Any, Any]
    shadowed: Sequence[dict[Any, Any]] = ()
    """For the dict of an object: the dicts of its type, whose keys it overrides."""
    held: dict[Any, Any] = field(default_factory=dict)
    size: int = 0
    """The number of all entries, whether they are code or not."""
    looked_at: int = field(init=False)
    """The number of leading entries that do not come from a module that can be unloaded."""

    def __post_init__(self) -> None:
        self.looked_at = _size(self.entries)

    @property
    def in_namespace(self) -> bool:
        return isinstance(self.owner, ModuleType | type)

    def is_as_before(self) -> bool:
        """Tell whether nothing was replaced, removed or added."""
        get = (
            partial(dict.get, self.entries) if isinstance(self.entries, dict) else self.entries.get
        )
        return _size(self.entries) == self.size and all(
            map(is_, map(get, self.held), self.held.values())
        )

    def accept(self) -> None:
        """Accept the current content as the original content."""
        entries = dict(_items(self.entries))
        self.held = {key: entries[key] for key in self.held}
        self.size = _size(self.entries)


class Libraries:
    """The libraries in their current state, and all of their modules that are imported later."""

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}
        self._lists: dict[int, tuple[str, list[Any], list[Any]]] = {}
        self._functions: dict[int, FunctionType] = {}
        self._internals: dict[str, list[Any]] = {name: [] for name in _INTERNALS}
        self._modules = _Place("sys.modules", sys.modules, sys.modules)
        sys.meta_path.insert(0, ImportHook(lambda name: _root(name) in LIBRARIES, self._seen))
        # This runs the code of a module that was imported lazily (`process_server.LATE`).
        self._see(name for name in list(sys.modules) if _root(name) in LIBRARIES)

    @contextmanager
    def _seen(self, spec: ModuleSpec) -> Iterator[None]:
        """Record a module once its code has run."""
        yield
        self._see([spec.name])

    def changes(self) -> list[Change]:
        """Return everything that differs from its original state."""
        found = [*self._replaced(self._modules)]
        for place in self._places.values():
            if not place.is_as_before():
                changes = [*self._replaced(place), *self._added(place)]
                found += changes
                if not changes:  # a library itself made all of them
                    place.accept()
        for name, owner, before in self._lists.values():
            code = [each for each in owner if _is_function(each)]
            more = code[len(before) :]
            if (
                not all(map(is_, code, before))
                or len(code) < len(before)
                or any(map(_foreign, more))
            ):
                into = " ".join(_described(each) for each in code)
                found.append(Change(name, into, partial(_fill, owner, before)))
        for key, before in self._internals.items():
            now = list(map(attrgetter(key), self._functions.values()))
            if not all(map(is_, now, before)):
                for function, old, new in zip(self._functions.values(), before, now, strict=True):
                    if old is not new:
                        name = f"{function.__module__}.{function.__qualname__}"
                        into = f"{key} {_described(new)}"
                        found.append(Change(name, into, partial(setattr, function, key, old)))
        return found

    def forget(self, modules: frozenset[str]) -> None:
        """Remove entries of unloaded modules from dicts.

        The modules add them again when they are imported.

        Many registries, such as that of `AutoConfig`, reject a name that they already have.
        """
        for place in self._places.values():
            if isinstance(place.owner, dict) and _size(place.entries) != place.looked_at:
                for key, value in _items(place.entries)[place.looked_at :]:
                    parts = (key, *value) if isinstance(value, tuple) else (key, value)
                    if not modules.isdisjoint(map(_origin, parts)):
                        _remove(place.owner, key)
                        place.size -= place.held.pop(key, None) is not None
                place.looked_at = _size(place.entries)

    def _see(self, names: Iterable[str]) -> None:
        """Record the current state of modules that are not recorded yet."""
        met: set[int] = set()
        with warnings.catch_warnings(action="ignore"):  # an attribute may be deprecated
            for name in names:
                module = sys.modules.get(name)
                if isinstance(module, ModuleType):
                    self._modules.held.setdefault(name, module)
                    self._see_namespace(name, module, met)

    def _see_namespace(self, name: str, owner: ModuleType | type, met: set[int]) -> None:
        if id(owner) in self._places:
            return
        place = self._places[id(owner)] = _Place(name, owner, vars(owner))
        self._hold(place)
        for key, value in list(vars(owner).items()):
            if isinstance(value, type):
                if _root(value.__module__) in LIBRARIES and not value.__flags__ & _IMMUTABLE:
                    self._see_namespace(f"{value.__module__}.{value.__qualname__}", value, met)
            elif id(value) not in met and not key.startswith("__"):
                met.add(id(value))
                self._see_container(f"{name}.{key}", value)
                kind = _root(type(value).__module__)
                if kind in LIBRARIES and kind != "builtins" and not _is_code(value):
                    shadowed = [
                        each for each in vars(type(value)).values() if isinstance(each, dict)
                    ]
                    for inner, container in list(getattr(value, "__dict__", {}).items()):
                        self._see_container(f"{name}.{key}.{inner}", container, shadowed)

    def _see_container(
        self, name: str, value: Any, shadowed: Sequence[dict[Any, Any]] = ()
    ) -> None:
        """Record a dict or a list that contains code or is empty."""
        if isinstance(value, dict) and id(value) not in self._places:
            place = _Place(name, value, value, shadowed)
            self._hold(place)
            if place.held or not place.size:
                self._places[id(value)] = place
        elif isinstance(value, list) and all(map(_is_function, value)):
            self._lists.setdefault(id(value), (name, value, list(value)))

    def _hold(self, place: _Place) -> None:
        """Record the original content of a place."""
        is_held = _is_code if place.in_namespace else _is_function
        items = [(key, value) for key, value in _items(place.entries) if is_held(value)]
        place.held, place.size = dict(items), _size(place.entries)
        for _, value in items:
            for function in _functions_of(value):
                if id(function) not in self._functions:
                    self._functions[id(function)] = function
                    for name, known in self._internals.items():
                        known.append(getattr(function, name))

    def _replaced(self, place: _Place) -> Iterator[Change]:
        entries = dict(_items(place.entries))
        for key, old in place.held.items():
            new = entries.get(key, _MISSING)
            if new is not old and not _is_own(place, old, new):
                undo = partial(_put, place.owner, key, old)
                yield Change(_named(place, key), _described(new), undo)

    def _added(self, place: _Place) -> Iterator[Change]:
        for key, value in _items(place.entries):
            if key not in place.held and _is_code(value) and _disturbs(place, key, value):
                undo = partial(_remove, place.owner, key)
                yield Change(_named(place, key), _described(value), undo)


def _root(name: object) -> str:
    return name.partition(".")[0] if isinstance(name, str) else ""


def _is_code(value: Any) -> bool:
    return callable(value) or hasattr(type(value), "__get__")


def _is_function(value: Any) -> bool:
    """Tell whether a value is a function or a class, as in a registry.

    A cache also contains other values.
    """
    return isinstance(_inner(value), FunctionType | BuiltinFunctionType | type)


# The functions below use the methods of `dict` itself, since a registry may be a subclass of it
# whose own methods import what it lists (transformers' auto classes).


def _items(entries: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return list(dict.items(entries) if isinstance(entries, dict) else entries.items())


def _size(entries: Mapping[Any, Any]) -> int:
    return dict.__len__(entries) if isinstance(entries, dict) else len(entries)


def _named(place: _Place, key: Any) -> str:
    return f"{place.name}.{key}" if place.in_namespace else f"{place.name}[{key!r:.60}]"


def _disturbs(place: _Place, key: Any, value: Any) -> bool:
    """Tell whether a new entry affects code that does not know about it."""
    if not _foreign(value):
        return False
    if isinstance(place.owner, type):
        return _is_special(key) or any(key in vars(base) for base in place.owner.__mro__[1:])
    if isinstance(place.owner, ModuleType):
        return _is_special(key) or key in vars(builtins)
    # An entry with a new name is only used by that name, and a cache only by the code that filled
    # it.
    return "hook" in place.name or any(key in each for each in place.shadowed)


def _foreign(value: Any) -> bool:
    return _root(_origin(value)) not in LIBRARIES | sys.stdlib_module_names


def _is_own(place: _Place, old: Any, new: Any) -> bool:
    """Tell whether a library itself has replaced a function with a wrapper.

    torch does so with the `step` of an optimizer class when it first creates an optimizer, and with
    many of its functions when it first compiles (2.13). A library may also replace something that
    is not a library's: `datasets` does so with `Path` when a file reader is first used (5.2).
    """
    if _root(_origin(new)) == _root(place.name) and _root(_origin(old)) not in LIBRARIES:
        return True
    function = _inner(new)
    if not isinstance(function, FunctionType) or "<locals>" not in function.__code__.co_qualname:
        return False
    origin = _root(_origin(function))
    wraps = getattr(function, "__wrapped__", None) is old
    return origin == _root(place.name) or (wraps and origin in LIBRARIES)


def _is_special(key: str) -> bool:
    return key.startswith("__") and key.endswith("__")


def _inner(value: Any) -> Any:
    """Return the function inside a method, a property, a partial or a cache."""
    if isinstance(value, staticmethod | classmethod | MethodType):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    if isinstance(value, partial):
        return _inner(value.func)
    return value.__wrapped__ if isinstance(value, _CACHE) else value


def _functions_of(value: Any) -> list[FunctionType]:
    found = [_inner(value), value.fset if isinstance(value, property) else None]
    return [each for each in found if isinstance(each, FunctionType)]


def _origin(value: Any) -> str:
    """Return the module that the code of a value comes from."""
    value = _inner(value)
    if isinstance(value, FunctionType):  # `functools.wraps` changes `__module__`
        return str(value.__globals__.get("__name__"))
    return str(getattr(value, "__module__", None) or type(value).__module__)


def _described(value: Any) -> str:
    """Return a text that is the same for a value that the same code creates in another process."""
    if value is _MISSING:
        return "nothing"
    if isinstance(value, CodeType):
        digest = hashlib.sha256(repr(code_parts(value)).encode()).hexdigest()
        return f"{value.co_qualname} {digest[:12]}"
    inner = _inner(value)
    if isinstance(inner, FunctionType):
        return f"{_origin(inner)} {_described(inner.__code__)}"
    kind = inner if isinstance(inner, type) else type(inner)
    return f"{kind.__module__}.{kind.__qualname__}"


def _put(owner: Any, key: Any, value: Any) -> None:
    if isinstance(owner, type):
        type.__setattr__(owner, key, value)
    else:  # an OrderedDict keeps its order only through its own methods
        (vars(owner) if isinstance(owner, ModuleType) else owner)[key] = value


def _remove(owner: Any, key: Any) -> None:
    if isinstance(owner, type):
        type.__delattr__(owner, key)
    else:
        del (vars(owner) if isinstance(owner, ModuleType) else owner)[key]


def _fill(owner: list[Any], values: list[Any]) -> None:
    owner[:] = values
