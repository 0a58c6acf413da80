"""What a person sees while a sweep runs: a live view in a terminal or a notebook, else lines.

It is a follower: it runs in the followers' thread of the sweep process and keeps its own history.
It must not decide anything, nor run the sweep: `running.py` does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import RLock

from rich.console import Group, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sweeps.amounts import counted, duration
from sweeps.answer.answer import Answer
from sweeps.answer.digits import digits_to_tell_apart, number, one_line
from sweeps.cli.console import console, say
from sweeps.cli.live_view import LiveView
from sweeps.cli.notebook import Cell
from sweeps.cli.summary import print_confirmation, print_summary, show_comparison
from sweeps.cli.tables import COLORS, Params, trials_in_words
from sweeps.driver.followers import Stage, SweepStart
from sweeps.durations import written
from sweeps.planning.forecast import Expectation, expect
from sweeps.planning.layout import at_once_in_words
from sweeps.planning.sharing import groups_now
from sweeps.planning.steps import with_few_steps
from sweeps.planning.time_left import share_of_evaluations, time_left, trial_s
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.records.trial import Trial, count
from sweeps.report import Steps
from sweeps.secrets import redact

ROWS = 12
"""Trials in the live table: the running ones, then the best."""
BAR, SHORT_BAR, NARROW = 8, 4, 100
"""Characters of a progress bar, of one on a narrow screen, and the width below which a screen is
narrow. There, no column shows the device time, so that a param or a reason has room."""
WORTH_SAYING_S = 1.0
"""A stage that took less than this ends without a message."""


class Display:
    """Prints how a sweep is going and, at its end, what it found.

    Args:
        cell: The notebook output that shows the live view; None: use the terminal, if there is one.
    """

    def __init__(self, cell: Cell | None = None) -> None:
        self._cell = cell
        self._lock = RLock()
        """The live view is drawn in a separate thread, which holds the console's lock when it takes
        this one. Printing takes the console's lock, so nothing may be printed while this one is
        held."""
        self._live: LiveView | None = None
        self._spinner = Spinner("dots")
        self._stage: tuple[str, float] | None = None
        """What the sweep waits for, and since when."""
        self._steps: dict[str, Steps] = {}
        """How far each running trial is."""
        self._start: SweepStart | None = None
        self._works = False
        """Whether this process has logged an event. Until then, trials that a killed process left
        look as if they were still running."""
        self._expected: Expectation | None = None

    def close(self) -> None:
        """Remove the live view, if it is still there."""
        if self._cell is not None:
            self._cell.show(None)
        if self._live is not None:
            self._live.close()
            self._live = None

    # Called in the followers' thread.

    def live(self, state: Stage | Steps) -> None:
        """Show what the sweep waits for, or how far a trial is."""
        with self._lock:
            if isinstance(state, Steps):
                self._steps[state.trial] = state
                return
            ended = self._end_stage()
            self._stage = (state.name, time.monotonic())
        _say_all(ended)
        if self._cell is not None:
            self._cell.show(self._view)
        elif not console.is_terminal:
            say(state.name)
        elif self._live is None:
            self._live = LiveView(self._view, console)

    def _end_stage(self) -> list[str]:
        """End the stage, if there is one; return the line about it that stays on a terminal."""
        if self._stage is None:
            return []
        name, since = self._stage
        self._stage = None
        if not console.is_terminal:  # the line of its start is already there
            return []
        took_s = time.monotonic() - since
        return [f"{name} took {duration(took_s)}"] if took_s >= WORTH_SAYING_S else []

    def begin(self, start: SweepStart) -> None:
        """Print where the sweep is and how much it runs."""
        space, config = start.space, start.config
        with self._lock:
            lines = self._end_stage()
            self._sweep = History(space.metric, space.mode, config.repeats)
            for event in start.past:
                self._sweep.apply(event)
            self._start = start
            lines += self._forecast(start)
        _say_all(lines)
        if self._history.started is not None:
            ended = sum(trial.ended for trial in self._history.trials.values())
            say(f"resumed: {ended} of {config.num_trials} trials have ended")
        size = start.layout.size
        budget = config.time_budget
        say(
            f"{start.folder.id} in {start.folder.path}\n"
            f"{trials_in_words(config)}, {at_once_in_words(start.layout)} at once,"
            f" {counted(size.workers, 'worker')} each"
            f"{f', within {written(budget)}' if budget is not None else ''}"
        )

    def _forecast(self, start: SweepStart) -> list[str]:
        """Forecast the work, with the steps that the smoke run found; return a line if it fails."""
        space, measured = start.space, self._sweep.measured
        if measured is not None:
            space = with_few_steps(space, measured.steps)
        try:
            self._expected = expect(start.new_scheduler, space, start.config.num_trials)
        except Exception as error:  # a user's scheduler may fail in the simulation only
            why = redact(str(error))
            return [f"cannot estimate the time left: the scheduler's forecast failed ({why})"]
        return []

    def note(self, text: str) -> None:
        """Print the line, without secrets."""
        say(redact(text))

    def event(self, event: ev.Event) -> None:
        """Print a line for the event; with a live view, only if an attempt or a trial ended."""
        lines: list[str] = []
        with self._lock:
            self._works = True
            self._sweep.apply(event)
            if isinstance(event, ev.OfConfirmation):
                event = event.inner
            if isinstance(event, ev.SmokeEnded | ev.JobStarted):
                lines += self._end_stage()
            if isinstance(event, ev.SmokeEnded) and event.outcome == "done":
                lines.append(self._measured())
        _say_all(lines)
        lasts = isinstance(event, ev.AttemptEnded | ev.TrialEnded)
        plain = self._cell is None and not console.is_terminal
        if (lasts or plain) and (line := self._line(event)):
            say(line)

    def end(self, answer: Answer) -> None:
        """Remove the live view and print what was found."""
        assert self._start is not None, "the sweep has begun"
        self.close()
        shown = self._start.folder, self._history, answer, self._start.config
        if self._start.confirms:
            print_confirmation(*shown)
            return
        print_summary(*shown)
        if answer.status != "failed" and self._start.folder.record_file.exists():
            show_comparison(self._start.folder, self._start.config.storage)

    @property
    def _history(self) -> History:
        """What is shown: the search, or the runs of its confirmation."""
        assert self._start is not None, "the sweep has begun"
        confirmation = self._sweep.confirmation
        if not self._start.confirms:
            return self._sweep
        if confirmation is None:  # it has not begun yet
            return History(self._sweep.metric, self._sweep.mode, self._start.config.repeats)
        return confirmation.runs

    def _measured(self) -> str:
        """Return the line on what the smoke run measured."""
        measured = self._history.measured
        assert self._start is not None
        assert measured is not None, "a smoke run is measured before it succeeds"
        if measured.steps < self._start.space.evals_per_trial and self._expected is not None:
            self._forecast(self._start)
        whole_s = trial_s(measured, self._start.space.evals_per_trial)
        if whole_s is None:
            return (
                "smoke run: step times vary too much to estimate how long a trial takes; most"
                " steps may have included compilation"
            )
        parts = [f"{measured.step_s:.2g} s per step"]
        if measured.batch_s is not None:
            parts.append(f"{measured.batch_s:.2g} s per evaluation batch")
        line = f"smoke run: {', '.join(parts)}; a complete trial takes about {duration(whole_s)}"
        if self._start.layout.groups > 1:
            line += " if it runs alone"  # as the smoke run did; trials share a machine's memory
        share = share_of_evaluations(measured, self._start.space.evals_per_trial)
        if share is not None:
            line += f", {share:.0%} of it for evaluations"
        return f"{line}, {text}" if (text := self._time_left()) else line

    def _line(self, event: ev.Event) -> str | None:
        """Return the line for an event in a log file."""
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
                if event.outcome == "crowded":
                    what = "out of memory on a shared GPU"
                return f"{event.trial} attempt {event.attempt} {what}: {event.message}"
            case ev.TrialEnded():
                trial = self._history.trials[event.trial]
                why = f": {trial.reason}" if event.failure else ""
                left = f" ({text})" if (text := self._time_left()) else ""
                return f"{event.trial} {event.status.replace('_', ' ')}{why}{left}"
        return None

    # The live view: a table of trials, the progress of running ones, and the sweep as a whole.

    def _view(self) -> RenderableType:
        with self._lock:
            parts: list[RenderableType] = []
            if self._works and (trials := self._shown()):
                parts.append(self._table(trials))
                parts += [
                    _wrapped(_steps_in_words(self._steps[trial.id]))
                    for trial in trials
                    if trial.status == "running" and trial.id in self._steps
                ]
                parts.append(_wrapped(self._caption()))
            if self._stage is not None:
                name, since = self._stage
                self._spinner.update(text=f"{name}: {duration(time.monotonic() - since)}")
                parts.append(self._spinner)
            return Group(*parts)

    def _shown(self) -> list[Trial]:
        """Return the running trials and the best of the others, as many as fit on the screen."""
        ranked = self._history.ranked()
        running = [trial for trial in ranked if trial.status == "running"]
        others = [t for t in ranked if t.status not in ("running", "waiting")]
        room = console.height - 5 - len(running)  # each of these also has a separate line
        return [*running, *others][: max(1, min(room, max(ROWS, len(running))))]

    def _table(self, trials: Sequence[Trial]) -> Table:
        history = self._history
        table = Table(box=None, pad_edge=False, header_style="dim")
        means = ["mean"] if history.repeats > 1 else []
        spent = [] if _is_narrow() else ["device time"]
        for column in ("trial", "status", "progress", history.metric, *means, *spent):
            table.add_column(column, no_wrap=True)
        table.add_column("params")  # the only column that may shrink
        values = [history.value(trial) for trial in trials]
        digits = digits_to_tell_apart(values)
        of_means = digits_to_tell_apart(history.set_of(trial).mean for trial in trials)
        for trial in trials:
            table.add_row(*self._row(trial, digits, of_means))
        return table

    def _row(self, trial: Trial, digits: int, of_means: int) -> tuple[RenderableType, ...]:
        history = self._history
        done = trial.reports[-1].progress if trial.reports else 0.0
        if trial.status == "running" and (steps := self._steps.get(trial.id)):
            done = max(done, steps.step / steps.max_steps)
        length = SHORT_BAR if _is_narrow() else BAR
        bar = "█" * round(length * done) + "░" * (length - round(length * done))
        status = trial.failure or trial.status.replace("_", " ")
        return (
            trial.id,
            Text(status, style=COLORS.get(trial.status, "")),
            f"{bar} {done:4.0%}",
            number(history.value(trial), digits),
            *([number(history.set_of(trial).mean, of_means)] if history.repeats > 1 else []),
            *([] if _is_narrow() else [duration(trial.device_s_by(time.time()))]),
            Text(trial.reason, no_wrap=True, overflow="ellipsis")
            if trial.reason
            else Params(trial.params),
        )

    def _caption(self) -> str:
        assert self._start is not None
        history = self._history
        trials = history.trials.values()
        ended = count(trials, "finished", "stopped_early", "failed")
        parts = [f"{ended} of {self._start.config.num_trials} trials"]
        if left := self._time_left():
            parts.append(left)
        if paused := count(trials, "paused"):
            parts.append(f"{paused} paused")
        winner = history.winner()
        if winner is not None:
            own = history.set_of(winner)
            mean = " mean" if history.repeats > 1 else ""
            parts.append(f"best {own.id}{mean} {number(own.mean)}")
        parts.append(f"device time {duration(history.device_s_by(time.time()))}")
        parts.append(f"{duration(history.used_s_by(time.time()))} so far")
        return " · ".join(parts)

    def _time_left(self) -> str | None:
        if self._expected is None or self._start is None:
            return None
        left = time_left(
            self._history,
            self._start.config,
            self._expected,
            groups=groups_now(self._start.layout, self._history),
            evaluations=self._start.space.evals_per_trial,
            now=time.time(),
        )
        return f"about {duration(left)} left" if left else None


def _say_all(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)


def _is_narrow() -> bool:
    return console.width < NARROW


def _wrapped(text: str) -> Text:
    return Text(text, style="dim", no_wrap=False, overflow="fold")


def _steps_in_words(steps: Steps) -> str:
    """Return how far a trial is, as text: its step, loss, learning rate and speed."""
    parts = [f"{steps.trial} step {steps.step} of {steps.max_steps}"]
    if steps.newest is not None:
        parts.append(f"loss {number(steps.newest.loss)}")
        if steps.newest.learning_rate is not None:
            parts.append(f"learning rate {steps.newest.learning_rate:.3g}")
    if steps.evaluating:
        parts.append("evaluating")
    elif steps.rows_per_s is not None:
        parts.append(f"{steps.rows_per_s:.0f} rows/s")
    return " · ".join(parts)
