"""Library functions that do something only when first called, although a job's end undoes it.

Runs in the workers. It must not know what a job does. Such a function has a cache and returns
nothing: HF's `tf32=True` and `torch_compile=True` would set a precision for the first job of a
process alone. A test walks through the libraries, and fails if one is missing here.
"""

from __future__ import annotations

from accelerate.utils import set_numa_affinity
from transformers.utils import enable_tf32

CALLED_ONCE = (enable_tf32, set_numa_affinity)


def forget_calls() -> None:
    """Make the next call of each of them work again."""
    for function in CALLED_ONCE:
        function.cache_clear()
