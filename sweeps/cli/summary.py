"""What is printed at the end of a sweep: what was found, why trials failed, what to do next.

Runs in the sweep process, once. It must not know how the sweep went on the way.
"""

from __future__ import annotations

import time

from sweeps.answer.comparison import compare
from sweeps.answer.results import gain, read_results, standard_error
from sweeps.cli.console import command, console, duration, number, one_line
from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.object_storage import open_sweep
from sweeps.records.sweep_record import rerun_of
from sweeps.records.trial import Trial, count

TRACEBACKS = 3
"""Failed trials whose traceback is printed; all are in the sweep's folder."""


def print_summary(folder: SweepFolder, history: History, config: SweepConfig) -> None:
    """Print tracebacks of failed trials, the winner, and the commands to look further.

    Args:
        folder: The sweep's.
        history: What happened.
        config: For `--storage` in the commands.
    """
    _print_tracebacks(folder, history)
    trials = history.trials.values()
    console.print(
        f"{folder.id}: {count(trials, 'finished')} trials finished,"
        f" {count(trials, 'stopped_early')} stopped early, {count(trials, 'failed')} failed,"
        f" {count(trials, 'waiting', 'running')} cut off;"
        f" {duration(history.device_s_by(time.time()))} of device time",
        markup=False,
    )
    winner = history.winner()
    if winner is None:
        console.print("no trial has reported anything")
        return
    _print_winner(history, winner)
    for words in (
        ["results", folder.id],
        ["ui", folder.id],
        ["export", folder.id, "--out", f"exported/{folder.id}"],
    ):
        console.print(f"  {command(*words, storage=config.storage)}", markup=False)


def reason(trial: Trial) -> str:
    """Say in one line why a trial failed."""
    return trial.attempts[-1].message or trial.diverged or "it ended without an evaluation"


def _print_winner(history: History, winner: Trial) -> None:
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


def _print_tracebacks(folder: SweepFolder, history: History) -> None:
    smoke = history.smoke
    if smoke is not None and smoke.traceback and smoke.outcome == "error" and not smoke.fixable:
        console.print(f"the smoke run failed: {smoke.message}\n{smoke.traceback}", markup=False)
    failed = [t for t in history.trials.values() if t.attempts and t.status == "failed"]
    for trial in failed[:TRACEBACKS]:
        last = trial.attempts[-1]
        console.print(f"{trial.id} failed ({trial.failure}): {reason(trial)}", markup=False)
        if last.traceback and not last.fixable:
            console.print(last.traceback, markup=False)
    if len(failed) > TRACEBACKS:
        console.print(f"{len(failed) - TRACEBACKS} more failed: see {folder.logs}")


def show_comparison(folder: SweepFolder, storage: str) -> None:
    """Print the comparison; nothing where the sweep repeats no other.

    Args:
        folder: The sweep's.
        storage: Where both sweeps are.
    """
    rerun = rerun_of(folder.record())
    if rerun is None:
        return
    try:
        recorded = open_sweep(storage, rerun.sweep)
    except UserError as error:  # deleted, or this one was moved
        console.print(f"nothing to compare with: {error}", markup=False)
        return
    for line in compare(read_results(recorded), read_results(folder)):
        console.print(line, markup=False)
