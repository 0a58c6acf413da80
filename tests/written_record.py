"""A record as `sweep.json` keeps it, with defaults for all that a test does not care about."""

from __future__ import annotations

import dataclasses
from typing import Any

from sweeps.config import SweepConfig
from sweeps.records.folder import SweepFolder
from sweeps.records.provenance import GitState
from sweeps.records.sweep_record import Source, SpaceRecord, SweepRecord, write_record

SPACE = SpaceRecord(
    name="curves",
    metric="eval_score",
    mode="max",
    builder="curves.build",
    pipeline=None,
    has_test_split=True,
    tuned={},
    fixed={},
    constraints=[],
    first_params=[],
    evals_per_trial=4,
)
RECORD = SweepRecord(
    sweep="curves-20261123-0741-k3f9",
    command="python -m sweeps run curves",
    user="ada",
    space=SPACE,
    config=SweepConfig(),
    tracking_uri="sqlite:///mlflow.db",
    artifacts="mlartifacts",
    source=Source(file="curves.py", root="/", dotted=False, base="/", assignments=[]),
    git=GitState(commit="c0ffee", branch="main", dirty=False, url=""),
    versions={"python": "3.11.9"},
)


def a_record(space: str = "curves", **changes: Any) -> SweepRecord:
    """A record of a space with this name; `changes` are fields of the record or of its space."""
    of_space = {field.name for field in dataclasses.fields(SpaceRecord)}
    inside = {key: value for key, value in changes.items() if key in of_space}
    outside = {key: value for key, value in changes.items() if key not in of_space}
    return dataclasses.replace(
        RECORD, space=dataclasses.replace(SPACE, name=space, **inside), **outside
    )


def put_record(folder: SweepFolder, space: str = "curves", **changes: Any) -> SweepRecord:
    """Write `sweep.json` into a folder that is there, and return what it says."""
    record = a_record(space, **{"sweep": folder.id, **changes})
    write_record(folder, record)
    return record
