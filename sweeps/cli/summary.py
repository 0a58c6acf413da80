"""The answer of a sweep as text, and the summary at its end: failures, answer, next commands.

The summary is printed once, by the sweep process; `export` prints the answer, too. It must not
decide who won: `answer/answer.py` does.
"""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.amounts import duration
from sweeps.answer.answer import Answer
from sweeps.answer.comparison import compare
from sweeps.answer.digits import number, one_line, percent
from sweeps.answer.gain import gain_in_words
from sweeps.answer.results import read_results, traceback_file
from sweeps.answer.wording import digits_of_answer, unknown_in_words
from sweeps.cli.confirmation_lines import confirmation_lines
from sweeps.cli.console import console, say
from sweeps.cli.tables import majority_lines, so_far_lines, tie_lines
from sweeps.config import SweepConfig, command
from sweeps.errors import UserError
from sweeps.naming import some
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.object_storage import open_sweep
from sweeps.records.sweep_record import read_record

TRACEBACKS = 3
"""Maximum number of failed trials whose traceback is printed; all tracebacks are in the sweep's
folder."""


def print_summary(
    folder: SweepFolder, history: History, answer: Answer, config: SweepConfig
) -> None:
    """Print tracebacks of failed trials, the answer, and commands to run next.

    Args:
        folder: The sweep's folder.
        history: The history, for the failed trials.
        answer: The sweep's answer.
        config: For the commands: `--storage`, and `ui` where MLflow tracks the sweep.
    """
    _print_tracebacks(folder, history)
    ends = answer.trials
    say(
        f"{folder.id}: {ends['finished']} finished, {ends['stopped_early']} stopped early,"
        f" {ends['failed']} failed, {ends['not_ended']} not ended;"
        f" {duration(answer.device_s)} of device time"
    )
    for line in so_far_lines(answer, config.num_trials):
        say(line)
    if answer.status == "finished" and answer.reason is not None:
        say(f"the sweep ended early: {answer.reason}")
    if answer.winner is None:
        nothing = f"a finite {answer.metric} and a complete checkpoint"
        say(f"no trial has {nothing}" if history.reports else "no trial has reported anything")
    for line in answer_lines(answer):
        say(line)
    if not folder.events_file.exists():
        return  # somebody deleted the folder
    for words in _next_commands(folder.id, answer, config):
        console.print(f"  {command(*words, storage=config.storage)}")


def _next_commands(sweep: str, answer: Answer, config: SweepConfig) -> Iterator[list[str]]:
    if answer.status == "interrupted":
        yield ["resume", sweep]
    if answer.winner is None:
        return
    yield ["results", sweep]
    if "mlflow" in config.trackers:
        yield ["ui", sweep]
    yield ["export", sweep, "--out", f"exported/{sweep}"]


def answer_lines(answer: Answer) -> list[str]:
    """Return lines on who won, by how much, and what cannot be told apart; none if nobody won."""
    winner = answer.winner
    if winner is None:
        return []
    error = f" (standard error {number(winner.error)})" if winner.error is not None else ""
    at = f"at step {winner.step}, {percent(winner.progress)} of the trial"
    digits = digits_of_answer(answer)
    mean, value = (number(each, digits) for each in (winner.mean, winner.value))
    if winner.repeats > 1:
        lines = [
            f"best: the params of {winner.params_set} with {answer.metric} {mean}"
            f"{error}, the mean over {winner.seeds} of {winner.repeats} seeds",
            f"      their best trial: {winner.trial} with {value} {at}",
        ]
    else:
        lines = [f"best: {winner.trial} with {answer.metric} {value}{error} {at}"]
    lines.append(f"      {one_line(winner.params)}")
    lines += [f"      {line}" for line in majority_lines(answer.majority)]
    if answer.baseline is not None:
        gain = gain_in_words(winner.params_set, answer.baseline, answer.compared, answer.gain)
        lines.append(f"      {gain}")
    lines += [f"      {line}" for line in tie_lines(winner.params_set, answer.tied)]
    if answer.not_told_apart:
        lines.append(f"      this sweep cannot tell it from {some(answer.not_told_apart)}")
    if (unknown := unknown_in_words(answer)) is not None:
        lines.append(f"      {unknown}")
    if answer.confirmation is not None:
        lines += confirmation_lines(answer.confirmation, answer.metric)
    return lines


def print_confirmation(
    folder: SweepFolder, history: History, answer: Answer, config: SweepConfig
) -> None:
    """Print failed runs, what the confirmation says, and the next command.

    Args:
        folder: The sweep's folder.
        history: The history of the confirmation's runs, for those that failed.
        answer: The sweep's answer.
        config: For the command: `--storage`.
    """
    _print_tracebacks(folder, history)
    print_confirmed(folder, answer, config)


def print_confirmed(folder: SweepFolder, answer: Answer, config: SweepConfig) -> None:
    """Print what the confirmation says, and the next command."""
    confirmed = answer.confirmation
    if confirmed is None:
        return
    for line in confirmation_lines(confirmed, answer.metric):
        say(line)
    if not folder.events_file.exists():
        return  # somebody deleted the folder
    words = ["confirm", folder.id]
    if confirmed.ended:
        words = ["export", folder.id, "--out", f"exported/{folder.id}"]
    console.print(f"  {command(*words, storage=config.storage)}")


def _print_tracebacks(folder: SweepFolder, history: History) -> None:
    smoke = history.smoke
    if smoke is not None and smoke.traceback and smoke.outcome == "error" and not smoke.fixable:
        console.print(f"the smoke run failed: {smoke.message}\n{smoke.traceback}")
    failed = [t for t in history.trials.values() if t.attempts and t.status == "failed"]
    for trial in failed[:TRACEBACKS]:
        last = trial.attempts[-1]
        say(f"{trial.id} failed ({trial.failure}): {trial.reason}")
        if last.traceback and not last.fixable:
            console.print(last.traceback)
    for trial in failed[TRACEBACKS:]:
        say(failure_line(trial.id, trial.failure, trial.reason, traceback_file(folder, trial)))


def failure_line(trial: str, kind: str | None, reason: str | None, traceback: str | None) -> str:
    """Return the line on why a trial failed, and where its traceback is."""
    return f"{trial} failed ({kind}): {reason}" + (f"\n  {traceback}" if traceback else "")


def show_comparison(folder: SweepFolder, storage: str) -> None:
    """Print the comparison, if the sweep repeats another one.

    Args:
        folder: The sweep's folder.
        storage: Where both sweeps are.
    """
    rerun = read_record(folder).rerun_of
    if rerun is None:
        return
    try:
        recorded = open_sweep(storage, rerun.sweep)
    except UserError as error:  # the original was deleted, or this one was moved
        say(f"cannot read the original sweep, so there is no comparison: {error}")
        return
    for line in compare(read_results(recorded), read_results(folder)):
        say(line)
