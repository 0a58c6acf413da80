"""The search space as bytes for the workers.

Made in the sweep process. It must not know what is in a space.
"""

from __future__ import annotations

import importlib
import io
import sys
from types import ModuleType
from typing import Any

from ray import cloudpickle

from sweeps.space.search_space import SearchSpace


def pickled(space: SearchSpace) -> bytes:
    """Return a pickle of the space, with the user's own code in it."""
    file = io.BytesIO()
    _Pickler(file).dump(space)
    return file.getvalue()


class _Pickler(cloudpickle.CloudPickler):
    """Takes by name also modules of a type of their own, as `torch.backends.cudnn` is.

    cloudpickle 3.1 does so only with those of the type `ModuleType`.
    """

    def reducer_override(self, obj: object) -> Any:
        if (
            isinstance(obj, ModuleType)
            and type(obj) is not ModuleType
            and sys.modules.get(obj.__name__) is obj
        ):
            return importlib.import_module, (obj.__name__,)
        return super().reducer_override(obj)
