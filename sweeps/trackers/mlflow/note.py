"""The answer of a sweep as Markdown: the note at the top of its run in MLflow.

Written by the writer process. It must not know MLflow, nor anything that the event log and
`sweep.json` do not say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sweeps.answer.results import gain
from sweeps.records.history import History
from sweeps.records.trial import Trial


def answer(record: Mapping[str, Any], history: History) -> str:
    """Return what the sweep has found, and what it cost."""
    if history.ended is None:
        head = "The sweep was interrupted; so far:\n\n"
    elif history.ended.status == "failed":
        head = f"The sweep failed: {history.ended.reason}\n\n"
    else:
        head = ""
    winner = history.winner()
    found = _winner(record, history, winner) if winner else "No trial has reported yet.\n"
    return f"{head}{found}\n{_cost(history)}\n\n{_tuned(record, winner)}"


def _winner(record: Mapping[str, Any], history: History, winner: Trial) -> str:
    metric, report = record["metric"], history.best(winner)
    assert report is not None, "the winner has a best report"
    value = report.metrics[metric]
    text = _repeats(history, winner) + (
        f"**Best trial: {winner.id}** with `{metric}` **{value:.6g}** "
        f"({'higher' if history.mode == 'max' else 'lower'} is better) at step {report.step} of "
        f"{report.max_steps}, epoch {report.epoch:.3g}.\n"
    )
    baseline, gained = history.baseline(), gain(history)
    if baseline is None or baseline.id == history.set_of(winner).id:
        return text
    first = history.set_of(baseline).mean
    return (
        f"{text}\nGain over the first of `first_params`"
        f" ({baseline.id}, {first:.6g}): {gained:.4g}.\n"
    )


def _repeats(history: History, winner: Trial) -> str:
    """Return what the winner's params come to over their seeds, where there are several."""
    if history.repeats == 1:
        return ""
    own = history.set_of(winner)
    error = f", standard error {own.error:.2g}" if own.error is not None else ""
    return (
        f"**Best params: those of {own.id}** with `{history.metric}` **{own.mean:.6g}**, the mean"
        f" over {len(own.values)} of {own.repeats} seeds{error}.\n\n"
    )


def _cost(history: History) -> str:
    trials = history.trials.values()
    ends = Counter(trial.status for trial in trials)
    kinds = Counter(trial.failure for trial in trials if trial.failure)
    failed = f"{ends['failed']} failed"
    if kinds:
        failed += f" ({', '.join(f'{kind} {n}' for kind, n in sorted(kinds.items()))})"
    open_trials = ends["running"] + ends["waiting"]
    return (
        f"{len(trials)} trials: {ends['finished']} finished, {ends['stopped_early']} stopped "
        f"early, {failed}{f', {open_trials} not ended' if open_trials else ''}. "
        f"{sum(trial.device_s for trial in trials):,.0f} device-seconds."
    )


def _tuned(record: Mapping[str, Any], winner: Trial | None) -> str:
    """Return the table of the tuned arguments, with the winner's params where there is one."""
    params = winner.params if winner else {}
    rows = [("tuned", winner.id if winner else "", "domain"), ("---", "---", "---")]
    rows += [
        (f"`{name}`", str(params.get(name, "")), f"`{domain}`")
        for name, domain in record["tuned"].items()
    ]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
