"""Which run an export takes, and its checkpoint, complete and undamaged.

Runs wherever `export.py` does. It must not know what becomes of the checkpoint, nor decide which
trial won: `answer.py` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.answer.results import Results, is_gone
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import is_whole, weights_sha256
from sweeps.records.history import History
from sweeps.records.object_storage import fetch_checkpoint, has_checkpoint
from sweeps.records.trial import Trial


def chosen_run(results: Results, trial_id: str | None) -> tuple[History, Trial]:
    """Return the run to export, which has a checkpoint, and the history that it belongs to.

    Args:
        results: The sweep's results.
        trial_id: The trial, or a run of the confirmation; None: the best run of the best params
            after a confirmation, else the winner of the sweep's answer.

    Raises:
        UserError: There is no such run, or it has no checkpoint.
    """
    history, answer = results.history, results.answer
    confirmed = answer.confirmation
    if trial_id is None and confirmed is not None:
        if confirmed.best is not None and confirmed.best_run is None:
            raise UserError(
                f"no run of {confirmed.best}, the best confirmed params, has a checkpoint; to"
                " export another trial, pass --trial; trials with a checkpoint:"
                f" {_saved(results, history)}"
            )
        trial_id = confirmed.best_run
    if trial_id is None:
        if answer.winner is None:
            lacks = "no reports yet"
            if history.reports:
                lacks = f"no trial with a finite {history.metric} and a complete checkpoint"
            raise UserError(f"{results.folder.id} has {lacks}, so there is nothing to export")
        trial_id = answer.winner.trial
    history, trial = history.find_run(trial_id, results.folder.id)
    if "best" not in trial.checkpoints:
        runs = "trials" if history is results.history else "runs"
        raise UserError(
            f"{trial.id} has no checkpoint: {_why_not_saved(results, history, trial)}; {runs} with"
            f" a checkpoint: {_saved(results, history)}"
        )
    return history, trial


def in_words(provenance: Mapping[str, Any]) -> str:
    """Return which run an export took, in words, from the content of its `provenance.json`."""
    notes = []
    if "confirmed" in provenance:
        notes.append(f"a run of the params of {provenance['confirmed']['params_of']}")
    if provenance["failure"] is not None:
        notes.append("it failed later")
    trial: str = provenance["trial"]
    return f"{trial} ({'; '.join(notes)})" if notes else trial


def whole_checkpoint(results: Results, history: History, trial: Trial) -> Path:
    """Return the folder of a run's checkpoint.

    Raises:
        SweepError: The checkpoint is incomplete or damaged.
    """
    checkpoint = trial.checkpoints["best"]
    source = fetch_checkpoint(results.folder, checkpoint.path)
    if not is_whole(source):
        place = results.folder.place(checkpoint.path)
        raise SweepError(
            f"the checkpoint of {trial.id} is missing or incomplete: {place}"
            f"{_instead(results, history, trial)}"
        )
    if weights_sha256(source) != checkpoint.sha256:
        raise SweepError(
            f"{source} is damaged: its weights differ from those that were saved"
            f"{_instead(results, history, trial)}"
        )
    return source


def _saved(results: Results, history: History) -> str:
    """Return the ids of the trials that have a checkpoint to export, best first, for messages."""
    saved = ((trial.id, trial.checkpoints.get("best")) for trial in history.ranked())
    there = [name for name, each in saved if each and not is_gone(results.folder, each.path)]
    return ", ".join(there) or "none"


def _why_not_saved(results: Results, history: History, trial: Trial) -> str:
    """Return why a trial or a run of the confirmation has no checkpoint to export."""
    best = history.best(trial)
    if best is None:
        return f"it has not reported a finite {history.metric}"
    decided = trial.decisions.get(best.number)
    if decided is not None and decided.save_best and not _was_saved(trial, results.events):
        if trial.ended:
            return "it ended before its checkpoint was complete"
        return "its checkpoint is not complete yet"
    if history is not results.history:
        return "only the best run of each params set keeps one"
    kept = "" if history.repeats == 1 else " of the best params sets"
    keep = results.record.config.keep_checkpoints
    return f"with --keep-checkpoints {keep}, only the best trials{kept} keep one"


def _was_saved(trial: Trial, events: Sequence[ev.Event]) -> bool:
    """Tell whether a trial once had a complete checkpoint to export."""
    inner = (event.inner if isinstance(event, ev.OfConfirmation) else event for event in events)
    return any(
        isinstance(event, ev.CheckpointSaved) and (event.trial, event.kind) == (trial.id, "best")
        for event in inner
    )


def _instead(results: Results, history: History, lost: Trial) -> str:
    """Return a line on the best trial to export in place of one whose checkpoint is lost."""
    for trial in history.ranked():
        saved = trial.checkpoints.get("best")
        if trial is not lost and saved and has_checkpoint(results.folder, saved.path):
            value = history.value(trial)
            return (
                "\n"
                f"  the best trial with a checkpoint is now {trial.id} ({history.metric}"
                f" {value:.6g}); to export it, pass --trial {trial.id}"
            )
    return ""
