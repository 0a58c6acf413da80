"""What jobs leave behind in their processes: which groups may go on, and what the user is told.

Plain state inside the exchange. It must not wait for anything, nor know how changes are found
(`patches.py`, `own_modules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.workers.group_job import Group
from sweeps.workers.job import SMOKE, Job, LeftBy, Note
from sweeps.workers.patches import PatchRule

NAMED = 3
"""Changes that a line names."""


class Traces:
    """The changes of all jobs so far, to libraries and to the user's own files.

    Args:
        fresh_workers: Whether each trial has fresh processes anyway.
    """

    def __init__(self, fresh_workers: bool) -> None:
        self._fresh_workers = fresh_workers
        self._rule = PatchRule()
        self._said: set[tuple[str, ...]] = set()
        """What was said to be patched."""
        self._unsaid: list[Note] = []
        """Lines on groups that get fresh processes, for when there is a job for these."""
        self._own_files: dict[str, str] = {}
        """Digests of the user's files outside the sweep's copy, as jobs last imported them."""

    def judge_patches(self, number: int, group: Group, job: Job, reason: LeftBy) -> None:
        """Let a group end whose job has patched libraries, unless every job patches them alike."""
        patched = group.patched_by_all()
        if reason == "misplaced":
            self._rule.differ()
            group.worn = True
        elif not self._rule.goes_on(patched.made):
            group.worn = True
            if not self._fresh_workers and patched.names not in self._said:
                self._said.add(patched.names)
                self._unsaid.append(Note(fresh_processes(number, job, patched.names)))

    def fresh_groups(self) -> list[Note]:
        """Take the lines on groups that get fresh processes."""
        lines, self._unsaid = self._unsaid, []
        return lines

    def compare_files(self, job: Job, digests: Mapping[str, str]) -> list[Note]:
        """Return a line if files outside the sweep's copy have changed."""
        known = self._own_files
        changed = sorted(
            file for file in digests if known.get(file, digests[file]) != digests[file]
        )
        known |= digests
        return [Note(changed_files(job, changed))] if changed else []


def fresh_processes(group: int, job: Job, names: Sequence[str]) -> str:
    """Return the line that says why a group gets fresh processes."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    who = "the smoke run" if job.trial == SMOKE else job.trial
    return (
        f"group {group} gets fresh processes: {who} changed {', '.join(names[:NAMED])}{more},"
        " which would change the numbers of later trials"
    )


def changed_files(job: Job, files: Sequence[str]) -> str:
    """Return the line about files that are not as earlier trials have imported them."""
    return (
        f"{', '.join(files)} changed while the sweep ran: {job.trial} imported it as it is now,"
        " earlier trials as it was; only what lies in the folder of the space is copied"
    )
