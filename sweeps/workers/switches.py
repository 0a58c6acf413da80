"""Values of the process that a job may change, and how to read them and put them back.

Runs in the workers. It must not know which values there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

_UNREADABLE = object()


class Switch(NamedTuple):
    """One value of the process."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None
    """None: it can be set only once, or only by leaving a context."""


class Switches:
    """Values as they are now.

    Args:
        found: The values, in the order in which they are put back.
    """

    def __init__(self, found: Iterable[Switch]) -> None:
        self._before = [(switch, _value(switch)) for switch in found]

    def put_back(self) -> list[str]:
        """Put all values back; return the names of those that stay changed."""
        for switch, value in self._before:
            if switch.write is not None and value is not _UNREADABLE and _value(switch) != value:
                with suppress(Exception):  # the comparison below tells
                    switch.write(value)
        return [switch.name for switch, value in self._before if _value(switch) != value]


def attribute(owner: Any, key: str, name: str | None = None) -> Switch:
    """Return the value of an attribute; `name` is the owner's where it does not say its own."""
    name = f"{name or owner.__name__}.{key}"
    return Switch(name, partial(getattr, owner, key, None), partial(setattr, owner, key))


def _value(switch: Switch) -> Any:
    try:
        return switch.read()
    except (RuntimeError, AttributeError, OSError):  # torch without CUDA; a folder that is gone
        return _UNREADABLE
