"""What a sweep ran: the definition, the versions, the commit, and how to repeat and confirm it.

Pure functions over the sweep's record. They must not know how it is shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.answer.results import Results
from sweeps.config import SweepConfig, call, command


@dataclass(frozen=True, kw_only=True)
class WhatRan:
    """The definition of a sweep, and what it ran on."""

    command: str
    """The command that started it."""
    repeat: str | None
    """The command that repeats it; None if its space has no file, so that none can."""
    confirm: str
    """The command, or the call in Python, that confirms its winner."""
    user: str
    started: float | None
    """Unix time of the first start."""
    resumed: int
    """How often it was resumed."""
    devices: str | None
    """Kinds of the devices in use; None: not recorded."""
    commit: str | None
    """The commit of the space's file, and whether the repository had changes; None without one."""
    versions: Mapping[str, str]
    definition: Mapping[str, str]
    """Everything in which two sweeps can differ, as text by name."""


def find_what_ran(results: Results) -> WhatRan:
    """Return what a sweep ran."""
    record, history = results.record, results.history
    space, git = record.space, record.git
    commit = None
    if git is not None:
        commit = f"{git.commit}{' with uncommitted changes' if git.dirty else ''} on {git.branch}"
    storage = record.config.storage
    repeat, confirm = None, call("confirm", results.folder.id, storage=storage)
    if record.source.file is not None:
        repeat = command("run", "--from", results.folder.id, storage=storage)
        confirm = command("confirm", results.folder.id, storage=storage)
    return WhatRan(
        command=record.command,
        repeat=repeat,
        confirm=confirm,
        user=record.user,
        started=history.started,
        resumed=len(record.resumed),
        devices=history.devices,
        commit=commit,
        versions=record.newest_versions,
        definition={
            "space": space.name,
            "metric": f"{space.metric} ({space.mode})",
            **{f"tuned {key}": domain for key, domain in space.domains.items()},
            **{f"fixed {key}": _text(value) for key, value in space.fixed.items()},
            **{f"builder {key}": _text(value) for key, value in space.fields.items()},
            **({} if space.fields else {"builder": space.builder}),
            **({"constraints": ", ".join(space.constraints)} if space.constraints else {}),
            "evaluations per trial": str(space.evals_per_trial),
            **_changed(record.config),
        },
    )


def _changed(config: SweepConfig) -> dict[str, str]:
    """Return the config fields that affect the results and differ from the default."""
    default, where = SweepConfig(), ("storage", "trackers", "tracking_uri", "address")
    return {
        f"--{field.name.replace('_', '-')}": _text(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.name not in where
        and (
            field.name == "num_trials"
            or getattr(config, field.name) != getattr(default, field.name)
        )
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
