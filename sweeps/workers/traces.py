"""What jobs leave behind in their processes: which groups may continue, and what the user is told.

Plain state inside the exchange. It must not wait for anything, or know how changes are found
(`patches.py`, `own_modules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.naming import some
from sweeps.workers.group_job import Group
from sweeps.workers.isolation.patches import PatchRule
from sweeps.workers.job import SMOKE, Job
from sweeps.workers.messages import LeftBy, Note

NAMED = 3
"""Maximum number of changes that a line names."""


class Traces:
    """The changes of all jobs so far, to libraries and to the user's own files.

    Args:
        fresh_workers: Whether each trial gets fresh processes anyway.
    """

    def __init__(self, fresh_workers: bool) -> None:
        self._fresh_workers = fresh_workers
        self._rule = PatchRule()
        self._said: set[tuple[str, ...]] = set()
        """Sets of patches that were already reported."""
        self._unsaid: list[Note] = []
        """Lines about groups that restart their processes, kept until there is a job for them."""
        self._own_files: dict[str, str] = {}
        """Digests of the user's files outside the sweep's copy, as jobs last imported them."""

    def judge_patches(self, number: int, group: Group, job: Job, reason: LeftBy) -> None:
        """Let a group end if its job has patched libraries, unless all jobs patch them alike."""
        patched = group.patched_by_all()
        if reason == "misplaced":
            self._rule.differ()
            group.worn = True
        elif not self._rule.goes_on(patched.made):
            group.worn = True
            if not self._fresh_workers and patched.names not in self._said:
                self._said.add(patched.names)
                self._unsaid.append(Note(_fresh_processes(number, job, patched.names)))

    def fresh_groups(self) -> list[Note]:
        """Return the lines about groups that restart their processes, and forget them."""
        lines, self._unsaid = self._unsaid, []
        return lines

    def compare_files(self, job: Job, digests: Mapping[str, str]) -> list[Note]:
        """Return a line if files outside the sweep's copy have changed."""
        known = self._own_files
        changed = sorted(
            file for file in digests if known.get(file, digests[file]) != digests[file]
        )
        known |= digests
        return [Note(_changed_files(job, changed))] if changed else []


def _fresh_processes(group: int, job: Job, names: Sequence[str]) -> str:
    """Return the line that says why a group restarts its processes."""
    who = "the smoke run" if job.trial == SMOKE else job.trial
    return (
        f"group {group} restarts its processes: {who} changed {some(names, NAMED)},"
        " which would affect the results of later trials"
    )


def _changed_files(job: Job, files: Sequence[str]) -> str:
    """Return the line about files that changed after earlier trials imported them."""
    return (
        f"{', '.join(files)} changed while the sweep was running: {job.trial} imported the new"
        " version, earlier trials the old one; only files in the space's folder are copied"
    )
