"""Decides what a sweep does next, and logs each decision before anyone acts on it.

Runs in the sweep process, in one thread at a time. It must not know Ray: jobs go out and events
come in as values.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal, TypeVar

from sweeps.config import SweepConfig
from sweeps.driver import smoke_outcome as smoke
from sweeps.driver.decider import Decider
from sweeps.driver.keeping import Keeper
from sweeps.driver.saving import owed_save
from sweeps.driver.submission import Submission, make_submission
from sweeps.driver.suggestions import Suggests
from sweeps.driver.unlogged_ends import end_of_attempt, lost_checkpoints
from sweeps.driver.verdicts import common_bug, end_of_course, is_own_failure, verdict
from sweeps.durations import written
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.event_log import Log
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.trial import Trial, count
from sweeps.schedulers.base import Scheduler
from sweeps.space.arguments import may_take_fewer_rows
from sweeps.space.search_space import SearchSpace, with_prefix
from sweeps.texts import shortened
from sweeps.workers.job import SMOKE, Job, Reply

TRACEBACK = 50_000
"""How many characters of a traceback go to the log; those of an exception's text have no limit."""
Ended = TypeVar("Ended", ev.SmokeEnded, ev.AttemptEnded)


class Control:
    """Decides what runs, and what is stopped, saved, retried and kept.

    Args:
        space: The search space.
        config: How much the sweep may spend.
        folder: The sweep's folder.
        log: The open log that it writes.
        history: The history of the log so far; the log keeps feeding it.
        scheduler: A new scheduler, which has not decided anything yet.
        suggestions: Chooses the next trial.
        where: The space's location, for messages.
        note: Called with a line for the user.
    """

    def __init__(
        self,
        space: SearchSpace,
        config: SweepConfig,
        folder: SweepFolder,
        log: Log,
        history: History,
        scheduler: Scheduler,
        suggestions: Suggests,
        where: str,
        note: Callable[[str], None],
    ) -> None:
        self.history = history
        self._started: float | None = None
        """When the first trial's job started in this process, by the monotonic clock."""
        self._where = where
        self._space = space
        self._config = config
        self._folder = folder
        self._log = log
        self._decider = Decider(config, history, scheduler)
        self._suggestions = suggestions
        self._note = note
        if self._decider.contradiction is not None:
            note(self._decider.contradiction)
        self._keeper = Keeper(folder, log, history, config.keep_checkpoints)
        self._unfinished: deque[Trial] = deque()
        """Interrupted trials, which run before new ones."""
        self._used_up = False
        """Whether the space has no params left."""
        self._smoke_failures = 0

    def catch_up(self) -> None:
        """Complete the log after an interrupted process or round, and queue its open trials."""
        if self.history.trials and smoke.is_due(self.history):
            self._keeper.clear_smoke()  # left by an interrupted smoke run
        trials = list(self.history.trials.values())
        for trial in trials:
            self._drop_lost(trial)
            if (end := end_of_attempt(trial, self.history)) is not None:
                self._log.append(end)
        for report in self.history.reports:
            if report.number not in self.history.trials[report.trial].decisions:
                self._log.append(self._decider.decide(report, out_of_time=self.out_of_time()))
        for trial in trials:
            if not trial.ended and (reached := self._reached_end(trial)):
                self._log.append(reached)
            self._keeper.tidy(trial)
        self._keeper.push_out()
        self._unfinished = deque(trial for trial in trials if trial.status == "waiting")

    def _drop_lost(self, trial: Trial) -> None:
        """Log that checkpoints are gone; a trial may have deleted its whole output folder."""
        lost = lost_checkpoints(trial, self._folder)
        self._log.append(*lost)
        for dropped in lost:
            if dropped.kind == "state" and not trial.ended:
                place = self._folder.place(dropped.path)
                self._note(f"{trial.id} starts again at step 0: its saved state is gone ({place})")

    def _reached_end(self, trial: Trial) -> ev.TrialEnded | None:
        """Return the end of a trial that should stop or is finished, if all is saved."""
        owed = owed_save(trial, self.history, self._config.keep_checkpoints)
        return None if owed else end_of_course(trial)

    def smoke_job(self) -> Job | None:
        """Return the job of the smoke run, with the first trial's params; None if none is due.

        Raises:
            UserError: A constraint raises an exception.
        """
        if not self._config.smoke or not smoke.is_due(self.history):
            return None
        first = next(iter(self.history.trials.values()), None)
        if first is None:
            first = self._suggest()
            if first is None:
                return None
            self._unfinished.append(first)
        return Job(
            trial=SMOKE,
            attempt=1 + (self.history.smoke.attempt if self.history.smoke else 0),
            params=first.params,
            seed=first.seed,
            checkpoint=None,
        )

    def next_trial(self) -> Submission | Literal["wait"] | None:
        """Return the job of the next trial: unfinished, resumed, or new; None once all have ended.

        `wait` if none can start now while others are still running.

        Raises:
            UserError: A constraint raises an exception.
        """
        trial = self._unfinished.popleft() if self._unfinished else self._resume()
        trial = trial or self._suggest()
        if trial is not None:
            return self._submission(trial)
        if count(self.history.trials.values(), "waiting", "running"):
            return "wait"
        self._end_paused()
        return None

    def _resume(self) -> Trial | None:
        """Log which paused trials to resume, and return the first one that has left its group."""
        while not self.out_of_time() and (resumed := self._decider.resume_next()):
            trial = self.history.trials[resumed.trial]
            has_left = trial.status == "paused"
            self._log.append(resumed)
            if has_left:
                return trial
        return None

    def _end_paused(self) -> None:
        """End the paused trials, since nothing can make the scheduler resume one any more."""
        for trial in self.history.trials.values():
            if trial.status == "paused":
                self._log.append(ev.TrialEnded(trial=trial.id, status="stopped_early"))
                self._keeper.tidy(trial)
        self._keeper.push_out()

    def _suggest(self) -> Trial | None:
        """Log a new trial and return it; None if there are no more."""
        so_far = len(self.history.trials)
        if so_far >= self._config.num_trials or self._used_up or self.out_of_time():
            return None
        suggested = self._suggestions.suggest()
        if suggested is None:
            self._used_up = True
            self._note(
                "the searcher has no untried params left that satisfy all constraints, so the sweep"
                f" ends with its {so_far} trials"
            )
            return None
        self._log.append(suggested)
        return self.history.trials[suggested.trial]

    def decide(self, reported: ev.Reported) -> Reply:
        """Log a new report and the decision on it, and return the answer to the workers.

        Raises:
            UserError: The report lacks the metric.
        """
        report = reported.report
        self._check_metric(report.metrics)
        self._log.append(reported)
        decided = self._decider.decide(report, out_of_time=self.out_of_time())
        self._log.append(decided)
        return Reply(decided.decision, decided.save_best, decided.save_state)

    def _check_metric(self, metrics: Mapping[str, float]) -> None:
        if self._space.metric not in metrics:
            names = sorted(metrics)
            raise UserError(
                f"the evaluation did not return the metric {self._space.metric!r}; it returned:"
                f" {', '.join(names) or 'nothing'}{with_prefix(self._space.metric, names)}",
                self._where,
            )

    def take(self, event: ev.Event) -> Submission | None:
        """Log what workers did; return a job if a trial or the smoke run must run again.

        Raises:
            UserError: All trials would probably fail in the same way.
            SweepError: The smoke run failed, or the first trials did, all with the same exception.
        """
        match event:
            case ev.SmokeMeasured():
                self._check_metric(event.metrics)
                self._log.append(event)
            case ev.SmokeEnded():
                return self._smoke_ended(event)
            case ev.CheckpointSaved():
                self._keeper.keep(event)
            case ev.AttemptEnded():
                return self._attempt_ended(event)
            case ev.GpuMeasured() if self.history.gpu_use is not None:
                pass  # another trial has already shown it
            case ev.JobStarted():
                self._started = self._started or time.monotonic()
                self._log.append(event)
            case _:
                self._log.append(event)
        return None

    def _smoke_ended(self, ended: ev.SmokeEnded) -> Submission | None:
        ended = self._file_traceback(SMOKE, ended)
        self._keeper.clear_smoke()
        self._log.append(ended)
        self._smoke_failures += ended.outcome == "error"
        if (fault := smoke.fault(ended, self._smoke_failures, self._where)) is not None:
            raise fault
        for line in smoke.findings(ended, self.history.measured, self._space):
            self._note(line)
        again = self.smoke_job()
        return (again, {}) if again is not None else None

    def _file_traceback(self, of: str, ended: Ended) -> Ended:
        """Write the traceback to its file; return the event as it is logged, with a shorter one."""
        if not ended.traceback:
            return ended
        with suppress(OSError):  # a full disk; the event has the traceback, too
            self._folder.traceback(of, ended.attempt).write_text(ended.traceback)
        # The same text for the same error: `verdict` compares the tracebacks of two attempts.
        traceback = shortened(ended.traceback, TRACEBACK, "the traceback files in logs/")
        return dataclasses.replace(ended, traceback=traceback)

    def _attempt_ended(self, attempt: ev.AttemptEnded) -> Submission | None:
        attempt = self._file_traceback(attempt.trial, attempt)
        trial = self.history.trials[attempt.trial]
        end = self._reached_end(trial) or (
            None
            if trial.on_hold
            else verdict(
                trial,
                attempt,
                max_failures=self._config.max_failures,
                may_take_fewer_rows=lambda phase: may_take_fewer_rows(
                    self._space, trial.params, self._config.workers_per_trial, phase
                ),
            )
        )
        self._log.append(*([attempt, end] if end else [attempt]))
        if attempt.outcome == "crowded":
            self._note(
                f"out of memory on a shared GPU: {trial.id} will run again, and one fewer trial"
                " will share that GPU from now on"
            )
        self._keeper.tidy(trial)
        self._keeper.push_out()  # the mean of a params set is final once its last trial ends
        if attempt.fixable and attempt.outcome == "interrupted":
            # A full disk, which is not the space's fault.
            raise UserError(attempt.message or "")
        if attempt.fixable and not is_own_failure(self.history, trial):
            raise UserError(attempt.message or "", self._where)
        if end and (bug := common_bug(self.history, self._config.max_failed_trials, trial)):
            raise SweepError(
                "the sweep stops, because its first trials all failed with the same exception:"
                f" {bug.message}"
            )
        return self._submission(trial) if trial.status == "waiting" else None

    def _submission(self, trial: Trial) -> Submission:
        self._drop_lost(trial)
        return make_submission(trial, self.history, keep=self._config.keep_checkpoints)

    def check_log(self) -> None:
        """Check that the event log is still there.

        Raises:
            SweepError: The log is gone.
        """
        self._log.check()

    def out_of_time(self) -> bool:
        """Tell whether all processes of the sweep together have used up the time budget."""
        budget = self._config.time_budget
        if budget is None:
            return False
        running_s = 0.0 if self._started is None else time.monotonic() - self._started
        return self.history.spent_s + running_s > budget.total_seconds()

    def end_reason(self) -> str | None:
        """Return the line that says that the time budget ended the sweep; None if it did not."""
        budget, trials = self._config.time_budget, self.history.trials.values()
        if budget is None or not self.out_of_time():
            return None
        cut = any(d.out_of_time for trial in trials for d in trial.decisions.values())
        cut = cut or any(trial.on_hold for trial in trials)
        if not cut and (self._used_up or len(trials) >= self._config.num_trials):
            return None
        return f"the time budget of {written(budget)} is used up"

    def all_ended(self) -> bool:
        """Tell whether every trial has ended."""
        return all(trial.ended for trial in self.history.trials.values())
