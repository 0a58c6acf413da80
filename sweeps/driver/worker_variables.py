"""Environment variables that a sweep's workers get in addition to Ray's.

Runs in the sweep process. It must not import anything heavy: see `early_server.py`.
"""

from __future__ import annotations

import os

from sweeps.hash_seed import hash_seed
from sweeps.secrets import for_workers, is_secret

PASSED_ON = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_", "NCCL_", "TORCH_")
"""Prefixes of the variables that are passed on."""


def worker_variables() -> dict[str, str]:
    """Return the environment variables that every process of a sweep gets."""
    passed_on = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(PASSED_ON) and not is_secret(name, value)
    }
    settings = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**settings, **hash_seed(), **passed_on}


def worker_secrets() -> dict[str, str]:
    """Return the environment variables that workers need but that must not appear in any log."""
    return for_workers(PASSED_ON)
