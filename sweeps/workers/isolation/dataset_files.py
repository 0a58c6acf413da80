"""What `datasets` keeps of a job: the files of its tables, and whether it looks for earlier ones.

Runs in the workers, after each job. It must not know what the tables hold.

With `datasets.disable_caching()`, each `map` writes its table to a temporary folder, which
`datasets` deletes when the process ends. A worker goes on for many jobs.
"""

from __future__ import annotations

from pathlib import Path

import datasets
from datasets import fingerprint

from sweeps.workers.isolation.switches import Switch


def caching() -> Switch:
    """Return the switch for whether `datasets` looks for tables that it has written before."""
    return Switch(
        "datasets.disable_caching",
        datasets.is_caching_enabled,
        lambda on: datasets.enable_caching() if on else datasets.disable_caching(),
    )


def forget() -> None:
    """Delete the temporary tables that no dataset uses any more.

    The name of the folder is not documented (datasets 5.2). Without it, the files stay.
    """
    if (folder := getattr(fingerprint, "_TEMP_DIR_FOR_TEMP_CACHE_FILES", None)) is None:
        return
    alive = fingerprint.get_datasets_with_cache_file_in_temp_dir()
    used = {file["filename"] for each in alive for file in each.cache_files}
    for path in Path(folder.name).iterdir():
        if str(path) not in used and path.is_file():
            path.unlink(missing_ok=True)
