"""Refuses code that starts training on import, as a script without `__main__` does.

Runs in the process that loads a space. It must not import transformers, since a space may not need
it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sweeps.space.user_code import guarded_train, own_line_here, problem_at

_HOME = "transformers.trainer"
"""The module of HF's `Trainer`."""


@contextmanager
def without_training() -> Iterator[None]:
    """Keep the user's code from training with HF's `Trainer`, even one that it has yet to import.

    Raises:
        UserError: The user's code trains.
    """
    with ExitStack() as refusals:
        finder = _Finder(refusals)
        sys.meta_path.insert(0, finder)
        if _HOME in sys.modules:
            finder.refuse(sys.modules[_HOME])
        try:
            yield
        finally:
            with suppress(ValueError):  # it has already removed itself
                sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Waits for the import of HF's `Trainer`.

    Args:
        refusals: Closing it lets `Trainer` train again.
    """

    def __init__(self, refusals: ExitStack) -> None:
        self._refusals = refusals

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of HF's module, changed to refuse training; None for other modules."""
        if name != _HOME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_refuse(module: ModuleType) -> None:
            execute(module)
            self.refuse(module)

        loader.exec_module = execute_and_refuse
        return spec

    def refuse(self, module: ModuleType) -> None:
        """Make the module's `Trainer` refuse to train."""

        def refuse(*_: Any, **__: Any) -> None:
            raise problem_at(
                own_line_here(),
                'starts training on import; move it under `if __name__ == "__main__":`, or tune the'
                " script unchanged: python -m sweeps run SCRIPT",
            )

        self._refusals.enter_context(guarded_train(module.Trainer, refuse))
