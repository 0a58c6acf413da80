"""Whether a process that a trial has patched may run another trial.

`Patches` runs in a worker, `PatchRule` in the exchange. They must not know what is patched:
`libraries.py` finds that.

A trial that changes the training libraries has fresh processes after it. Where every trial so far
has made the same changes, its group goes on: the changes are undone, and the next trial makes them
anew. That it does is checked once its trainer is built; one that does not leaves the group before
its first step. So no trial runs with a patch that it did not make itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from sweeps.workers.libraries import Change, Libraries

Made = frozenset[str] | None
"""Changes as texts, equal where the same code made them; None: not all can be undone and remade."""
NONE: Made = frozenset()


@dataclass(frozen=True)
class Patched:
    """What a job has changed."""

    names: tuple[str, ...] = ()
    """What was changed."""
    made: Made = NONE


class Patches:
    """What the jobs of this process change in the libraries.

    Args:
        libraries: As they were before the first job.
    """

    def __init__(self, libraries: Libraries) -> None:
        self._libraries = libraries
        self._expected: Made = None
        """What the last job had changed, and this one must change too."""
        self._built: Made = None
        """What this job had changed when its trainer was built; None where none is expected."""

    def fit(self) -> bool:
        """Tell, once the trainer is built, whether this job makes the changes of the last one."""
        if not self._expected:
            return True
        self._built = _made(self._libraries.changes())
        return self._built == self._expected

    def forget(self, modules: frozenset[str]) -> None:
        """Take what modules that leave the process have registered out of the registries."""
        self._libraries.forget(modules)

    def undo(self, lasting: Iterable[str]) -> Patched:
        """Undo what a job has changed, and return it.

        Args:
            lasting: What else it has changed, and cannot be put back.
        """
        changes = self._libraries.changes()
        for change in changes:
            with suppress(Exception):  # what is left is found below
                change.undo()
        left = self._libraries.changes() if changes else []
        stays = [*lasting, *(each.name for each in left)]
        made = _made(changes)
        # What is changed during the training may be changed once in a process.
        repeats = self._built is None or self._built == made
        self._expected, self._built = made, None
        names = (*dict.fromkeys([*(each.name for each in changes), *stays]),)
        return Patched(names, made if repeats and not stays else None)


class PatchRule:
    """What the trials of all groups have changed so far."""

    def __init__(self) -> None:
        self._first: Made = None
        """What the first job changed; None before its end."""
        self._alike = True

    def differ(self) -> None:
        """Take note of a trial that does not make the changes of the others."""
        self._alike = False

    def goes_on(self, made: Made) -> bool:
        """Take in what a job has changed; return whether its group may run another."""
        first_of_all = self._first is None
        self._first = made if first_of_all else self._first
        self._alike &= made is not None and made == self._first
        return made == NONE or (self._alike and not first_of_all)


def _made(changes: Iterable[Change]) -> Made:
    return frozenset(f"{each.name} = {each.into}" for each in changes)
