"""Makes the record of a sweep from its request.

Runs in the sweep process. It must not check anything: `new_request.py` does.
"""

from __future__ import annotations

import dataclasses
import getpass
import os

from sweeps.planning.request import Request
from sweeps.records.provenance import git_state, versions
from sweeps.records.sweep_record import Source, SpaceRecord, SweepRecord
from sweeps.space.conditions import Branch, branches_of
from sweeps.space.constraints import constraint_name
from sweeps.space.domain_data import DomainData
from sweeps.space.domains import domain_data
from sweeps.space.overrides import JUDGED
from sweeps.space.plain_values import in_json


def make_record(request: Request, sweep: str) -> SweepRecord:
    """Return the record of a sweep that starts now.

    Args:
        request: The checked sweep.
        sweep: Its id.
    """
    config, loaded = request.config, request.loaded
    return SweepRecord(
        sweep=sweep,
        command=request.command,
        user=_user(),
        space=space_record(request),
        config=config,
        tracking_uri=request.tracking_uri,
        artifacts=str(config.mlflow_artifacts),
        source=Source(
            file=str(loaded.file.relative_to(loaded.root)) if loaded.file else None,
            root=str(loaded.root),
            dotted=loaded.dotted,
            base=str(request.base),
            assignments=_settled_assignments(request),
        ),
        git=request.git or git_state(loaded.file),
        versions=versions(),
        rerun_of=request.rerun,
        warm_start_trials=request.warm_start_trials,
    )


def space_record(request: Request) -> SpaceRecord:
    """Return the record of a request's space."""
    space = request.space
    return SpaceRecord(
        name=request.loaded.name,
        metric=space.metric,
        mode=space.mode,
        builder=space.builder.text,
        fields=in_json(space.builder.values),
        pipeline=space.builder.pipeline,
        has_test_split=space.builder.has_test_split,
        tuned={
            key: [_domain(branch) for branch in branches_of(key, declared)]
            for key, declared in space.tuned.items()
        },
        fixed=in_json(space.fixed),
        constraints=[constraint_name(space, i) for i in range(len(space.constraints))],
        first_params=in_json(space.first_params),
        evals_per_trial=space.evals_per_trial,
    )


def _settled_assignments(request: Request) -> list[str]:
    """Return the assignments with what must not change on a resume: pinned revisions, and the mode.

    The usual mode of a metric may be another one in a later version.
    """
    texts = list(request.assignments)
    if revisions := request.space.builder.revisions:
        others = [text for text in texts if not text.startswith("revisions=")]
        texts = [*others, f"revisions={revisions!r}"]
    keys = {text.partition("=")[0] for text in texts}
    return texts + ([f"--mode={request.space.mode}"] if keys & {*JUDGED} == {"--metric"} else [])


def _domain(branch: Branch) -> DomainData:
    return dataclasses.replace(domain_data(branch.domain), condition=in_json(branch.condition))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, in a container
        return str(os.getuid())
