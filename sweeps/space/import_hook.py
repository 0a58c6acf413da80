"""Runs code around the first import of modules.

Runs wherever the user's code does. It must not know which modules, or what for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class ImportHook(MetaPathFinder):
    """Finds modules with the finders behind it in `sys.meta_path`.

    Args:
        wants: Tells from a module's full name whether to look for it.
        around: Returns the context in which to run the code of a module that was found; None: none.
    """

    def __init__(
        self,
        wants: Callable[[str], bool],
        around: Callable[[ModuleSpec], AbstractContextManager[None] | None],
    ) -> None:
        self._wants = wants
        self._around = around

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is wanted; see `importlib`."""
        if not self._wants(fullname):
            return None
        found = (
            finder.find_spec(fullname, path, target)
            for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]
            if hasattr(finder, "find_spec")
        )
        spec = next((each for each in found if each is not None), None)
        if spec is None or spec.loader is None or isinstance(spec.loader, type):
            return spec
        if (context := self._around(spec)) is not None:
            run = spec.loader.exec_module

            def run_within(module: ModuleType) -> None:
                with context:
                    run(module)

            # The loader itself is kept, since resources and sources are read through it.
            setattr(spec.loader, "exec_module", run_within)  # noqa: B010
        return spec
