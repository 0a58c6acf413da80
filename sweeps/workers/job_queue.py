"""The jobs that wait for a group, and the rules about which group may take which.

Plain state inside the exchange. It must not wait for anything or know which groups there are.
"""

from __future__ import annotations

from collections import deque

from sweeps.workers.job import SMOKE, Job


class JobQueue:
    """The jobs that no group has taken, in the order in which they are handed out.

    A *turn* is the number of jobs that the processes of a group have had: 0 in fresh ones.
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._fresh_only: set[str] = set()
        """Trials that run again only in processes that no job has used: an earlier trial may have
        caused their failure."""
        self._made_way = False
        """Whether a group has ended so that such a trial, which still waits, finds new ones."""
        self._smoking = False
        """Whether trials are waiting for the result of the smoke run."""

    def __bool__(self) -> bool:
        """Tell whether a job waits."""
        return bool(self._jobs)

    def enter(self, job: Job, *, ahead: bool) -> None:
        """Add a job, ahead of the others or behind them.

        After the smoke run's job, no trial is handed out until `smoke_over`.
        """
        self._smoking |= job.trial == SMOKE
        if ahead:
            self._jobs.appendleft(job)
        else:
            self._jobs.append(job)

    def smoke_over(self) -> None:
        """Start handing out trials."""
        self._smoking = False

    def keep_for_fresh(self, trial: str) -> None:
        """Let a trial run again only in processes that no job has used."""
        self._fresh_only.add(trial)

    def next_for(self, turn: int) -> Job | None:
        """Return the job that a group may take at this turn; None if there is none now."""
        job = self._first(turn)
        return None if job is None or (self._smoking and job.trial != SMOKE) else job

    def take(self, job: Job) -> None:
        """Remove a job that a group takes."""
        self._jobs.remove(job)
        if job.trial in self._fresh_only:
            self._fresh_only.remove(job.trial)
            self._made_way = False

    def needs_room(self, turn: int) -> bool:
        """Tell whether an idle group must end, because only jobs for fresh processes are waiting.

        One group is enough, and it has room for its replacement. That of the lost group may have
        none.
        """
        return bool(self._jobs) and self._first(turn) is None and not self._made_way

    def make_way(self, turn: int) -> None:
        """Record that an idle group ends; no other needs to, if jobs for fresh processes wait."""
        self._made_way |= self.needs_room(turn)

    def has_no_room(self) -> None:
        """Record that a replacement could not start, so another group must make way."""
        self._made_way = False

    def _first(self, turn: int) -> Job | None:
        jobs = (job for job in self._jobs if turn == 0 or job.trial not in self._fresh_only)
        return next(jobs, None)
