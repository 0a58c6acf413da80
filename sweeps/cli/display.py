"""What a person sees while a sweep runs: a live table on a terminal, plain lines elsewhere.

Runs in the sweep process; told of every event, and folds them by itself. It must not decide
anything.
"""

from __future__ import annotations

import time
from threading import RLock
from types import TracebackType

from rich.live import Live
from rich.table import Table
from rich.text import Text

from sweeps.cli.console import console, duration, number, one_line
from sweeps.cli.summary import print_summary, reason, show_comparison
from sweeps.cli.tables import COLORS, trials_in_words
from sweeps.driver.sweep import Observer, Outcome, resume_request, run_request
from sweeps.planning.forecast import expect
from sweeps.planning.layout import Layout
from sweeps.planning.request import Request
from sweeps.planning.time_left import time_left, trial_s
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.trial import Trial, count

ROWS = 12
"""Trials in the live table: the running ones, then the best."""


def run_and_show(request: Request, resumed: SweepFolder | None = None) -> Outcome:
    """Run a sweep to its end, show how it goes, and print what was found, faults or not.

    Args:
        request: What was asked for.
        resumed: The folder of a sweep to take up again; None starts a new one.
    """
    display = Display(request)
    try:
        with display:
            if resumed is not None:
                outcome = resume_request(request, resumed, display.observer)
            else:
                outcome = run_request(request, display.observer)
    finally:
        display.summarize()
    show_comparison(outcome.folder, request.config.storage)
    return outcome


class Display:
    """Shows one sweep from its start to its summary.

    Args:
        request: What was asked for.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._history = History(request.space.metric, request.space.mode, request.config.repeats)
        self._lock = RLock()
        self._folder: SweepFolder | None = None
        self._groups = 1
        self._rungs = request.new_scheduler().rungs()
        self._expected = expect(request.new_scheduler, request.space, request.config.num_trials)
        self._live = (
            Live(
                get_renderable=self._table,
                console=console,
                transient=True,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if console.is_terminal
            else None
        )

    @property
    def observer(self) -> Observer:
        """What the sweep process tells."""
        return Observer(begins=self._begin, event=self._take, note=self._note)

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def summarize(self) -> None:
        """Print what was found; nothing where the sweep did not begin."""
        if self._folder is not None:
            print_summary(self._folder, self._history, self._request.config)

    # Told by the sweep process.

    def _begin(self, folder: SweepFolder, layout: Layout) -> None:
        self._folder, self._groups = folder, layout.groups
        size = layout.size
        if folder.events_file.exists():
            with self._lock:
                for event, _ in read_events(folder.events_file):
                    self._history.apply(event)
            trials = self._history.trials.values()
            left = self._request.config.num_trials - sum(trial.ended for trial in trials)
            self._note(f"resumed: {sum(t.ended for t in trials)} trials have ended, {left} to go")
        self._note(
            f"{folder.id} in {folder.path}\n"
            f"{trials_in_words(self._request.config)}, {layout.groups} at once,"
            f" {size.workers} worker{'s' * (size.workers > 1)} each"
        )

    def _note(self, text: str) -> None:
        console.print(text, markup=False)

    def _take(self, event: ev.Event) -> None:
        with self._lock:
            self._history.apply(event)
            if isinstance(event, ev.SmokeEnded) and event.outcome == "done":
                self._note(self._measured())
        if self._live is None and (line := self._line(event)):
            console.print(line, markup=False)

    def _measured(self) -> str:
        """Say what the smoke run measured."""
        measured = self._history.measured
        assert measured is not None, "it is measured before it ends well"
        whole_s = trial_s(measured, self._request.space.evals_per_trial)
        parts = [f"{measured.step_s:.2g} s a step"]
        if measured.batch_s is not None:
            parts.append(f"{measured.batch_s:.2g} s an evaluation batch")
        line = f"smoke run: {', '.join(parts)}; a whole trial takes about {duration(whole_s)}"
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
                why = f": {reason(trial)}" if event.failure else ""
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
            Text(one_line(trial.params), no_wrap=True, overflow="ellipsis"),
        )

    def _caption(self) -> str:
        history = self._history
        trials = history.trials.values()
        ended = count(trials, "finished", "stopped_early", "failed")
        total = self._request.config.num_trials
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
            parts.append(f"{duration(time.time() - history.started)} so far")
        if left := self._time_left():
            parts.append(left)
        if not any(trial.job for trial in trials):
            smoke = self._request.config.smoke and not history.smoke_s
            parts[0] = "the workers start" + (", then the smoke run" if smoke else "")
        return " · ".join(parts)

    def _time_left(self) -> str | None:
        left = time_left(
            self._history,
            self._request.config,
            self._expected,
            groups=self._groups,
            evaluations=self._request.space.evals_per_trial,
            now=time.time(),
        )
        return f"about {duration(left)} left" if left else None
