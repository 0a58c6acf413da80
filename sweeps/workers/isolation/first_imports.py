"""The settings of PyTorch that a library makes when a job first imports it.

Runs in the workers. It must not know which libraries do so. Libraries stay loaded, so no later job
of the process would make such a setting again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.machinery import ModuleSpec, SourceFileLoader

from sweeps.space.import_hook import ImportHook
from sweeps.space.user_code import is_own
from sweeps.workers.isolation import torch_switches
from sweeps.workers.isolation.libraries import LIBRARIES
from sweeps.workers.isolation.switches import Switches

_KNOWN = LIBRARIES | sys.stdlib_module_names | {"sweeps"}
"""Packages that make no setting at their import."""


class FirstImports:
    """Compares the settings around the imports of libraries, from its creation on.

    A library that another one imports is a part of that import.
    """

    def __init__(self) -> None:
        self._settings: list[str] = []
        self._switches = torch_switches.find()
        self._importing = False
        sys.meta_path.insert(0, ImportHook(self._wants, self._around))

    def take_settings(self) -> list[str]:
        """Return the settings that imports have made since the last call."""
        settings, self._settings = self._settings, []
        return settings

    def _wants(self, name: str) -> bool:
        return not self._importing and name.partition(".")[0] not in _KNOWN

    def _around(self, spec: ModuleSpec) -> AbstractContextManager[None] | None:
        of_library = spec.origin is not None and not is_own(spec.origin)
        if of_library and isinstance(spec.loader, SourceFileLoader):
            return self._compared(spec.name.partition(".")[0])
        return None

    @contextmanager
    def _compared(self, package: str) -> Iterator[None]:
        before = Switches(self._switches)
        self._importing = True
        try:
            yield
        finally:
            self._importing = False
            self._settings += [f"{name} (by import {package})" for name in before.changed()]
