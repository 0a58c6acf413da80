"""Hyperparameter sweeps for Hugging Face Trainers on Ray.

`run`, `resume`, `confirm`, `load` and `compare` do what the verbs of `python -m sweeps` do. A
`SearchSpace` says what is tuned, and a `SweepConfig` how much the sweep may spend. The public names
are imported on first use, so that `python -m sweeps --help` does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.api import Sweep, compare, confirm, load, resume, run
    from sweeps.builders.causal_lm import CausalLM
    from sweeps.builders.scripts.script import Script
    from sweeps.builders.text_classification import TextClassification
    from sweeps.builders.token_classification import TokenClassification
    from sweeps.config import SweepConfig
    from sweeps.driver.followers import Follower
    from sweeps.driver.requests.finished import Changes
    from sweeps.errors import SweepError, UserError
    from sweeps.space.conditions import when
    from sweeps.space.search_space import SearchSpace

__all__ = [
    "CausalLM",
    "Changes",
    "Display",
    "Follower",
    "Script",
    "SearchSpace",
    "Sweep",
    "SweepConfig",
    "SweepError",
    "TextClassification",
    "TokenClassification",
    "UserError",
    "compare",
    "confirm",
    "load",
    "resume",
    "run",
    "when",
]

_HOMES = {
    "CausalLM": "sweeps.builders.causal_lm",
    "Changes": "sweeps.driver.requests.finished",
    "Display": "sweeps.cli.display",
    "Follower": "sweeps.driver.followers",
    "Script": "sweeps.builders.scripts.script",
    "SearchSpace": "sweeps.space.search_space",
    "Sweep": "sweeps.api",
    "SweepConfig": "sweeps.config",
    "SweepError": "sweeps.errors",
    "TextClassification": "sweeps.builders.text_classification",
    "TokenClassification": "sweeps.builders.token_classification",
    "UserError": "sweeps.errors",
    "compare": "sweeps.api",
    "confirm": "sweeps.api",
    "load": "sweeps.api",
    "resume": "sweeps.api",
    "run": "sweeps.api",
    "when": "sweeps.space.conditions",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
