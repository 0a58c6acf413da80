"""A search space that was made in Python and has no file of its own.

Runs in the sweep process. It must not know whether the sweep is new.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ray import cloudpickle

from sweeps.space.annotations import resolve_text
from sweeps.space.loading import LoadedSpace
from sweeps.space.search_space import SearchSpace


def without_file(space: SearchSpace, name: str, root: Path) -> LoadedSpace:
    """Return a space that the workers get pickled, with the module of its builder.

    Args:
        space: The space.
        name: Its name.
        root: The folder that relative paths are relative to.
    """
    builder = space.builder
    module = builder.module
    at_hand = ("sweeps", "__main__", *sys.stdlib_module_names)
    if module is not None and module.__name__.split(".")[0] not in at_hand:
        cloudpickle.register_pickle_by_value(module)
    resolve_text(builder.own)
    return LoadedSpace(space=space, name=name, file=None, root=root, folder=None)
