"""Whether a process that a trial has patched may run another trial.

`Patches` runs in a worker, `PatchRule` in the exchange. They must not know what is patched:
`libraries.py` finds that.

After a trial that changes the training libraries, its group gets fresh processes, unless every
trial so far has made the same changes. In that case the group continues: the changes are undone,
and the next trial makes them again. Once its trainer is built, this is checked; a trial that has
not made them leaves the group before its first step. So no trial runs with a patch that it did not
make itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from sweeps.workers.isolation.libraries import Change, Libraries

Made = frozenset[str] | None
"""Changes as texts, which are the same if the same code made them; None: not all can be undone and
redone."""
NONE: Made = frozenset()


@dataclass(frozen=True)
class Patched:
    """What a job has changed."""

    names: tuple[str, ...] = ()
    """What was changed."""
    made: Made = NONE


class Patches:
    """The changes that the jobs of this process make to the libraries.

    Args:
        libraries: Their state before the first job.
    """

    def __init__(self, libraries: Libraries) -> None:
        self._libraries = libraries
        self._expected: Made = None
        """The changes of the last job, which this one must make as well."""
        self._built: Made = None
        """The changes of this job when its trainer was built; None if none are expected."""

    def fit(self) -> bool:
        """Tell, once the trainer is built, whether this job makes the changes of the last one."""
        if not self._expected:
            return True
        self._built = _made(self._libraries.changes())
        return self._built == self._expected

    def forget(self, modules: frozenset[str]) -> None:
        """Remove the registry entries of modules that are unloaded."""
        self._libraries.forget(modules)

    def undo(self, lasting: Iterable[str]) -> Patched:
        """Undo what a job has changed, and return it.

        Args:
            lasting: Its other changes that cannot be reset.
        """
        changes = self._libraries.changes()
        for change in changes:
            with suppress(Exception):  # what remains is found below
                change.undo()
        left = self._libraries.changes() if changes else []
        stays = [*lasting, *(each.name for each in left)]
        made = _made(changes)
        # A change that is made during training may be made only once per process.
        repeats = self._built is None or self._built == made
        self._expected, self._built = made, None
        names = (*dict.fromkeys([*(each.name for each in changes), *stays]),)
        return Patched(names, made if repeats and not stays else None)


class PatchRule:
    """The changes that the trials of all groups have made so far."""

    def __init__(self) -> None:
        self._first: Made = None
        """The changes of the first job; None until it ends."""
        self._alike = True

    def differ(self) -> None:
        """Record that a trial does not make the changes of the others."""
        self._alike = False

    def goes_on(self, made: Made) -> bool:
        """Record what a job has changed; return whether its group may run another job."""
        first_of_all = self._first is None
        self._first = made if first_of_all else self._first
        self._alike &= made is not None and made == self._first
        return made == NONE or (self._alike and not first_of_all)


def _made(changes: Iterable[Change]) -> Made:
    return frozenset(f"{each.name} = {each.into}" for each in changes)
