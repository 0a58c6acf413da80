"""What `sweep.json` keeps: the request as it was resolved, and what it ran on.

Runs in the sweep process. It must not check anything: that is `new_request.py`.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
from typing import Any

from sweeps.planning.request import Request
from sweeps.records.folder import SweepFolder
from sweeps.records.provenance import git_state, versions
from sweeps.space.conditions import describe_tunable
from sweeps.space.constraints import constraint_name
from sweeps.space.search_space import SearchSpace, in_json


def write_record(request: Request, folder: SweepFolder) -> None:
    """Write `sweep.json`: the request as it was resolved, and what it ran on."""
    config, loaded = request.config, request.loaded
    record = {
        "sweep": folder.id,
        "space": loaded.name,
        "command": request.command,
        **describe_space(request.space),
        "rungs": list(config.rungs),
        "config": config.in_json(),
        "tracking_uri": request.tracking_uri,
        "artifacts": str(config.storage_folder / "mlartifacts"),
        "source": {
            "file": str(loaded.file.relative_to(loaded.root)) if loaded.file else None,
            "root": str(loaded.root),
            "dotted": loaded.folder != loaded.root,
            "base": str(request.base),
            "assignments": _settled_assignments(request),
        },
        "git": request.git or git_state(loaded.file),
        "versions": versions(),
        "user": _user(),
    }
    if request.rerun is not None:
        record["rerun_of"] = request.rerun.in_json()
    folder.write_record(record)


def _settled_assignments(request: Request) -> list[str]:
    """Return the assignments with what the builder was pinned to: a resume must not pin anew."""
    revisions = getattr(request.space.build_trainer, "revisions", None)
    if not revisions:
        return list(request.assignments)
    others = [text for text in request.assignments if not text.startswith("revisions=")]
    return [*others, f"revisions={dict(revisions)!r}"]


def describe_space(space: SearchSpace) -> dict[str, Any]:
    """Return what a space defines, as `sweep.json` keeps it."""
    return {
        "metric": space.metric,
        "mode": space.mode,
        "builder": _builder_in_json(space.build_trainer),
        "tuned": {key: describe_tunable(declared) for key, declared in space.tuned.items()},
        "fixed": {key: in_json(value) for key, value in space.fixed.items()},
        "constraints": [constraint_name(space, i) for i in range(len(space.constraints))],
        "first_params": [in_json(dict(params)) for params in space.first_params],
        "evals_per_trial": space.evals_per_trial,
    }


def _builder_in_json(builder: Any) -> str:
    named = repr(builder) if dataclasses.is_dataclass(builder) else None
    return named or f"{builder.__module__}.{builder.__qualname__}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return str(os.getuid())
