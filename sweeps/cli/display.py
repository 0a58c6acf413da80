"""What a person sees while a sweep runs: a live table on a terminal, plain lines elsewhere.

A follower: runs in the sweep process, in the followers' thread, and folds the events by itself. It
must not decide anything.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import RLock

from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.answer.answer import Answer
from sweeps.cli.console import (
    command,
    console,
    duration,
    number,
    one_line,
    print_error,
    stdout_may_fail,
)
from sweeps.cli.summary import print_summary, show_comparison
from sweeps.cli.tables import COLORS, trials_in_words
from sweeps.driver.followers import Follower, SweepStart
from sweeps.driver.sweep import Outcome, resume_request, run_request
from sweeps.planning.forecast import Expectation, expect
from sweeps.planning.request import Request
from sweeps.planning.time_left import time_left, trial_s
from sweeps.records import events as ev
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.trial import Trial, count
from sweeps.secrets import redact

ROWS = 12
"""Trials in the live table: the running ones, then the best."""


def run_and_show(
    request: Request,
    resumed: SweepFolder | None = None,
    followers: Sequence[Follower] | None = None,
) -> Outcome:
    """Run a sweep to its end while followers watch.

    Args:
        request: The sweep to run.
        resumed: The folder of a sweep to resume; None starts a new one.
        followers: Watch the sweep; None: a `Display`.
    """
    if followers is None:
        followers = [Display()]
    with stdout_may_fail("the sweep continues without it") as stdout:
        try:
            if resumed is not None:
                return resume_request(request, resumed, followers)
            return run_request(request, followers)
        finally:
            if stdout.waiting:
                results = command("results", request.loaded.name, storage=request.config.storage)
                print_error(
                    f"nothing is reading stdout; to see the output it missed, run: {results}"
                )


def _say(text: str) -> None:
    console.print(text, markup=False)


class Display:
    """Prints how one sweep goes, and at its end what was found."""

    def __init__(self) -> None:
        self._lock = RLock()
        """The live table is drawn in a thread of its own."""
        self._live: Live | None = None
        self._expected: Expectation | None = None

    # Called in the followers' thread.

    def begin(self, start: SweepStart) -> None:
        """Print where the sweep is and how much it runs; show the table."""
        self._start = start
        space, config = start.space, start.config
        self._history = History(space.metric, space.mode, config.repeats)
        self._rungs = start.new_scheduler().rungs()
        try:
            self._expected = expect(start.new_scheduler, space, config.num_trials)
        except Exception as error:  # a scheduler of the user's own; the sweep may never get there
            self.note(f"the time left is not shown: the scheduler's forecast failed ({error})")
        for event in start.past:
            self._history.apply(event)
        if start.past:
            ended = sum(trial.ended for trial in self._history.trials.values())
            _say(f"resumed: {ended} trials have ended, {config.num_trials - ended} to go")
        size = start.layout.size
        _say(
            f"{start.folder.id} in {start.folder.path}\n"
            f"{trials_in_words(config)}, {start.layout.groups} at once,"
            f" {size.workers} worker{'s' * (size.workers > 1)} each"
        )
        if console.is_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=console,
                transient=True,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def note(self, text: str) -> None:
        """Print the line, without secrets."""
        _say(redact(text))

    def event(self, event: ev.Event) -> None:
        """Print a line for the event; on a terminal it changes the table."""
        with self._lock:
            self._history.apply(event)
            if isinstance(event, ev.SmokeEnded) and event.outcome == "done":
                _say(self._measured())
        if self._live is None and (line := self._line(event)):
            _say(line)

    def end(self, answer: Answer) -> None:
        """Remove the table and print what was found."""
        if self._live is not None:
            self._live.stop()
        print_summary(self._start.folder, self._history, answer, self._start.config)
        if answer.status != "failed" and self._start.folder.record_file.exists():
            show_comparison(self._start.folder, self._start.config.storage)

    def _measured(self) -> str:
        """Say what the smoke run measured."""
        measured = self._history.measured
        assert measured is not None, "it is measured before it ends well"
        whole_s = trial_s(measured, self._start.space.evals_per_trial)
        parts = [f"{measured.step_s:.2g} s a step"]
        if measured.batch_s is not None:
            parts.append(f"{measured.batch_s:.2g} s an evaluation batch")
        line = f"smoke run: {', '.join(parts)}; a complete trial takes about {duration(whole_s)}"
        return f"{line}, {text}" if (text := self._time_left()) else line

    def _line(self, event: ev.Event) -> str | None:
        """Return what a log file should say of an event."""
        match event:
            case ev.JobStarted():
                trial = self._history.trials[event.trial]
                what = f"{trial.of} with seed {trial.seed}" if trial.of else one_line(trial.params)
                return f"{event.trial} starts on group {event.group}: {what}"
            case ev.Reported():
                report = event.report
                value = report.metrics.get(self._history.metric)
                return (
                    f"{report.trial} {report.progress:4.0%} {self._history.metric} {number(value)}"
                )
            case ev.AttemptEnded(outcome="paused"):
                return f"{event.trial} paused"
            case ev.AttemptEnded() if event.outcome not in ("done", "interrupted"):
                what = event.outcome.replace("_", " ")
                return f"{event.trial} attempt {event.attempt} {what}: {event.message}"
            case ev.TrialEnded():
                trial = self._history.trials[event.trial]
                why = f": {trial.reason}" if event.failure else ""
                left = f" ({text})" if (text := self._time_left()) else ""
                return f"{event.trial} {event.status.replace('_', ' ')}{why}{left}"
        return None

    # The live table.

    def _table(self) -> Table:
        with self._lock:
            history = self._history
            metric = history.metric
            table = Table(box=None, pad_edge=False, header_style="dim", caption_justify="left")
            means = ["mean"] if history.repeats > 1 else []
            for column in ("trial", "status", "progress", "rung", metric, *means, "device time"):
                table.add_column(column, no_wrap=True)
            table.add_column("params")  # the only one that may shrink
            ranked = history.ranked()
            running = [trial for trial in ranked if trial.status == "running"]
            others = [t for t in ranked if t.status not in ("running", "waiting")]
            for trial in [*running, *others][: max(ROWS, len(running))]:
                table.add_row(*self._row(trial))
            table.caption = Text(self._caption(), style="dim")
            return table

    def _row(self, trial: Trial) -> tuple[str | Text, ...]:
        newest = trial.reports[-1] if trial.reports else None
        done = newest.progress if newest else 0.0
        rungs = [rung for rung in self._rungs if rung <= done]
        status = trial.failure or trial.status.replace("_", " ")
        bar = "█" * round(8 * done) + "░" * (8 - round(8 * done))
        return (
            trial.id,
            Text(status, style=COLORS.get(trial.status, "")),
            f"{bar} {done:4.0%}",
            f"{rungs[-1]:.1%}" if rungs else "-",
            number(self._history.value(trial)),
            *([number(self._history.set_of(trial).mean)] if self._history.repeats > 1 else []),
            duration(trial.device_s_by(time.time())),
            Text(trial.reason or one_line(trial.params), no_wrap=True, overflow="ellipsis"),
        )

    def _caption(self) -> str:
        history = self._history
        trials = history.trials.values()
        ended = count(trials, "finished", "stopped_early", "failed")
        total = self._start.config.num_trials
        parts = [f"{ended} of {total} trials"]
        if paused := count(trials, "paused"):
            parts.append(f"{paused} paused")
        winner = history.winner()
        if winner is not None:
            own = history.set_of(winner)
            mean = " mean" if history.repeats > 1 else ""
            parts.append(f"best {own.id}{mean} {number(own.mean)}")
        parts.append(f"device time {duration(history.device_s_by(time.time()))}")
        if history.started is not None:
            so_far = ev.seconds_between(history.started, time.time())
            parts.append(f"{duration(so_far)} so far")
        if left := self._time_left():
            parts.append(left)
        if not any(trial.job for trial in trials):
            smoke = self._start.config.smoke and not history.smoke_s
            parts[0] = "the workers start" + (", then the smoke run" if smoke else "")
        return " · ".join(parts)

    def _time_left(self) -> str | None:
        if self._expected is None:
            return None
        left = time_left(
            self._history,
            self._start.config,
            self._expected,
            groups=self._start.layout.groups,
            evaluations=self._start.space.evals_per_trial,
            now=time.time(),
        )
        return f"about {duration(left)} left" if left else None
