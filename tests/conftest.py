"""What all tests share: no network, a Hub cache of their own, one Ray cluster a session."""

import os
import tempfile

_HOME = tempfile.TemporaryDirectory(prefix="sweeps-tests-")
os.environ |= {
    "HF_HOME": _HOME.name,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
os.environ.pop("RAY_ADDRESS", None)
