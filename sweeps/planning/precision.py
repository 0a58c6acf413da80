"""What is said about the precision of training, before anything starts.

Runs in the sweep process. It must not decide: `space/arguments.py` does.
"""

from __future__ import annotations

from sweeps.space.arguments import half_precision_switched_off
from sweeps.space.search_space import SearchSpace


def precision(space: SearchSpace, *, gpu: bool) -> list[str]:
    """Return the lines about the precision, on GPUs or without one."""
    if not gpu:
        return on_cpu(space)
    if space.builder.makes_arguments:
        return [f"{space.builder.name} determines the precision, unless the space sets it"]
    return ["bfloat16 if every GPU supports it, unless the space sets another precision"]


def on_cpu(space: SearchSpace) -> list[str]:
    """Return what it means that no GPU is in use."""
    off = half_precision_switched_off(space)
    lines = ["no GPU in use: training on the CPU, in full precision"]
    return lines + ([f"{', '.join(off)} switched off: half precision needs a GPU"] if off else [])
