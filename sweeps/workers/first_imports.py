"""The settings of PyTorch that a library makes when a job first imports it.

Runs in the workers. It must not know which libraries do so. Libraries stay loaded, so no later job
of the process would make such a setting again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType

from sweeps.space.user_code import is_own
from sweeps.workers import torch_switches
from sweeps.workers.libraries import LIBRARIES
from sweeps.workers.switches import Switches

_KNOWN = LIBRARIES | sys.stdlib_module_names | {"sweeps"}
"""Packages that make no setting at their import."""


class FirstImports(MetaPathFinder):
    """Finds libraries with the other finders, and compares the settings around their imports.

    Settings are not compared around imports by a library that is being imported.
    """

    def __init__(self) -> None:
        self._settings: list[str] = []
        self._switches = torch_switches.find()
        self._importing = False

    def take_settings(self) -> list[str]:
        """Return the settings that imports have made since the last call."""
        settings, self._settings = self._settings, []
        return settings

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a library that no other library is importing."""
        package = fullname.partition(".")[0]
        if self._importing or package in _KNOWN:
            return None
        found = (
            finder.find_spec(fullname, path, target)
            for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]
            if hasattr(finder, "find_spec")
        )
        spec = next((each for each in found if each is not None), None)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        if spec.origin is not None and not is_own(spec.origin):
            run = spec.loader.exec_module

            def run_and_compare(module: ModuleType) -> None:
                before = Switches(self._switches)
                self._importing = True
                try:
                    run(module)
                finally:
                    self._importing = False
                    self._settings += [f"{name} (by import {package})" for name in before.changed()]

            # The loader itself is kept, since resources and sources are read through it.
            setattr(spec.loader, "exec_module", run_and_compare)  # noqa: B010
        return spec
