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

from sweeps.cli.comparison import show_comparison
from sweeps.cli.console import command, console, duration, number, one_line
from sweeps.cli.tables import COLORS, trials_in_words
from sweeps.records import events as ev
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.results import gain, standard_error
from sweeps.records.trial import Trial, count
from sweeps.search.definition import Request
from sweeps.search.expectation import expect
from sweeps.search.layout import Layout
from sweeps.search.sweep import Observer, Outcome, resume_request, run_request
from sweeps.search.time_left import time_left, trial_s

ROWS = 12
"""Trials in the live table: the running ones, then the best."""
TRACEBACKS = 3
"""Failed trials whose traceback is printed at the end; all are in the sweep's folder."""


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
        self._expected = expect(
            request.config.num_trials, request.config, request.space.evals_per_trial
        )
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
        """Print what was found: the winner, tracebacks of failed trials, what to do next."""
        if self._folder is None:
            return
        history = self._history
        self._print_tracebacks()
        winner = history.winner()
        trials = history.trials.values()
        console.print(
            f"{self._folder.id}: {count(trials, 'finished')} trials finished,"
            f" {count(trials, 'stopped_early')} stopped early, {count(trials, 'failed')} failed,"
            f" {count(trials, 'waiting', 'running')} cut off;"
            f" {duration(self._device_s())} of device time",
            markup=False,
        )
        if winner is None:
            console.print("no trial has reported anything")
            return
        best = history.best(winner)
        assert best is not None
        error, own = standard_error(history), history.set_of(winner)
        within = f" (standard error {number(error)})" if error is not None else ""
        if history.repeats > 1:
            console.print(
                f"best: the params of {own.id} with {history.metric} {number(own.mean)}{within},"
                f" the mean over {len(own.values)} of {own.repeats} seeds\n"
                f"      their best trial: {winner.id} with {number(history.value(winner))}"
                f" at step {best.step}, {best.progress:.0%} of the trial",
                markup=False,
            )
        else:
            console.print(
                f"best: {winner.id} with {history.metric} {number(own.mean)}{within}"
                f" at step {best.step}, {best.progress:.0%} of the trial",
                markup=False,
            )
        console.print(f"      {one_line(winner.params)}", markup=False)
        first = history.baseline()
        gained = gain(history)
        if first is not None and gained is not None:
            console.print(
                f"      {number(gained)} better than the first params"
                f" ({first.id}: {number(history.set_of(first).mean)},"
                f" {first.status.replace('_', ' ')})"
                if gained > 0
                else f"      no better than the first params ({first.id})",
                markup=False,
            )
        config = self._request.config
        for verb in (["results"], ["ui"], ["export"]):
            words = [*verb, self._folder.id]
            if verb == ["export"]:
                words += ["--out", f"exported/{self._folder.id}"]
            line = command(*words, storage=config.storage)
            console.print(f"  {line}", markup=False)

    def _print_tracebacks(self) -> None:
        assert self._folder is not None
        smoke = self._history.smoke
        if smoke is not None and smoke.traceback and smoke.outcome == "error":
            console.print(f"the smoke run failed: {smoke.message}\n{smoke.traceback}", markup=False)
        failed = [t for t in self._history.trials.values() if t.attempts and t.status == "failed"]
        for trial in failed[:TRACEBACKS]:
            last = trial.attempts[-1]
            console.print(f"{trial.id} failed ({trial.failure}): {_reason(trial)}", markup=False)
            if last.traceback:
                console.print(last.traceback, markup=False)
        if len(failed) > TRACEBACKS:
            console.print(f"{len(failed) - TRACEBACKS} more failed: see {self._folder.logs}")

    # Told by the sweep process.

    def _begin(self, folder: SweepFolder, layout: Layout) -> None:
        self._folder, self._groups = folder, layout.groups
        size = layout.size
        if folder.events_file.exists():
            with self._lock:
                for event, _ in ev.read_events(folder.events_file):
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
        return f"{line}, {self._time_left()}"

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
            case ev.AttemptEnded() if event.outcome not in ("done", "interrupted"):
                what = event.outcome.replace("_", " ")
                return f"{event.trial} attempt {event.attempt} {what}: {event.message}"
            case ev.TrialEnded():
                trial = self._history.trials[event.trial]
                why = f": {_reason(trial)}" if event.failure else ""
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
        rungs = [rung for rung in self._request.config.rungs if rung <= done]
        status = trial.failure or trial.status.replace("_", " ")
        bar = "█" * round(8 * done) + "░" * (8 - round(8 * done))
        return (
            trial.id,
            Text(status, style=COLORS.get(trial.status, "")),
            f"{bar} {done:4.0%}",
            f"{rungs[-1]:.1%}" if rungs else "-",
            number(self._history.value(trial)),
            *([number(self._history.set_of(trial).mean)] if self._history.repeats > 1 else []),
            duration(self._device_s_of(trial)),
            Text(one_line(trial.params), no_wrap=True, overflow="ellipsis"),
        )

    def _caption(self) -> str:
        history = self._history
        trials = history.trials.values()
        ended = count(trials, "finished", "stopped_early", "failed")
        total = self._request.config.num_trials
        parts = [f"{ended} of {total} trials"]
        winner = history.winner()
        if winner is not None:
            own = history.set_of(winner)
            mean = " mean" if history.repeats > 1 else ""
            parts.append(f"best {own.id}{mean} {number(own.mean)}")
        parts.append(f"device time {duration(self._device_s())}")
        if history.started is not None:
            parts.append(f"{duration(time.time() - history.started)} so far")
        if left := self._time_left():
            parts.append(left)
        if not any(trial.job for trial in trials):
            parts[0] = "the workers are starting"
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
        return None if left is None else f"about {duration(left)} left"

    def _device_s_of(self, trial: Trial) -> float:
        running = trial.job if trial.status == "running" else None
        now = (time.time() - running.time) * running.devices if running else 0.0
        return trial.device_s + now

    def _device_s(self) -> float:
        return sum(map(self._device_s_of, self._history.trials.values()))


def _reason(trial: Trial) -> str:
    """Say in one line why a trial failed."""
    return trial.attempts[-1].message or trial.diverged or "it ended without an evaluation"
