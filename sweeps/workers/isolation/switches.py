"""Values of the process that a job may change, and how to read and restore them.

Runs in the workers, and in the sweep process. It must not know which values exist.
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
    """The values of this process at one moment.

    Args:
        found: The values, in the order in which they are restored.
    """

    def __init__(self, found: Iterable[Switch]) -> None:
        self._before = [(switch, _value(switch)) for switch in found]

    def put_back(self) -> list[str]:
        """Restore all values; return the names of those that could not be restored."""
        for switch, value in self._before:
            if switch.write is not None and value is not _UNREADABLE and _value(switch) != value:
                with suppress(Exception):  # the comparison below shows it
                    switch.write(value)
        return self.changed()

    def changed(self) -> list[str]:
        """Return the names of the values that differ now."""
        return [switch.name for switch, value in self._before if _value(switch) != value]


def attribute(owner: Any, key: str, name: str | None = None) -> Switch:
    """Return the switch for an attribute; `name` is the owner's name, if it has none itself."""
    name = f"{name or owner.__name__}.{key}"
    return Switch(name, partial(getattr, owner, key, None), partial(setattr, owner, key))


def _value(switch: Switch) -> Any:
    try:
        return switch.read()
    except (RuntimeError, AttributeError, OSError):  # torch without CUDA; a folder that is gone
        return _UNREADABLE
