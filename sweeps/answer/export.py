"""Export a checkpoint as a plain HF folder: model or adapter, tokenizer, provenance, card.

Runs on the command line or in Python, and needs no cluster. The folder is evaluated again in
another process (`model_process.py`). It must not decide which trial won: `answer.py` does.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweeps.answer.answer import Answer, Standing, finite, standing
from sweeps.answer.confirmation import Confirmed
from sweeps.answer.loading_back import from_pretrained, load_as_a_user, merge_adapter
from sweeps.answer.model_card import write_card
from sweeps.answer.model_process import Failed, Rows, Told, ask
from sweeps.answer.own_model import ADAPTER, CODE
from sweeps.answer.results import Results, is_gone
from sweeps.answer.same_model import Conditions, check_same_model
from sweeps.durable import follow_umask, put_in_place
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import MARKER, is_checkpoint, is_whole, weights_sha256
from sweeps.records.history import History
from sweeps.records.object_storage import fetch_checkpoint, fetch_code, has_checkpoint
from sweeps.records.readings import count_test_reads
from sweeps.records.trial import Trial
from sweeps.report import Report
from sweeps.space.code_copy import PROVENANCE, is_copy

FILES = "files"
"""The folder for what the trial's own code wrote to `args.output_dir`."""
NO_CODE = "the search space was defined in Python, so the code of its trainer was not recorded"


def export_checkpoint(
    results: Results,
    out: Path,
    *,
    trial_id: str | None = None,
    force: bool = False,
    merge: bool = False,
    evaluate: bool = True,
    test: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Copy a trial's best checkpoint to a folder, load it back and evaluate it again.

    Args:
        results: The sweep's results.
        out: The folder to create.
        trial_id: The trial, or a run of the confirmation; None: the best run of the best params
            after a confirmation, else the winner of the sweep's answer.
        force: Whether to replace a non-empty folder.
        merge: Whether to merge an adapter into its base model.
        evaluate: Whether to evaluate the folder on the held-out rows.
        test: Whether to evaluate it on the test split, too.
        note: Called with a line before each evaluation begins.

    Returns:
        The content of `provenance.json`.

    Raises:
        UserError: No such trial, it has no checkpoint, `out` is not empty, or there is nothing to
            merge.
        SweepError: The checkpoint is damaged or does not load, or its evaluation fails or returns a
            value other than the trial's.
    """
    answer = results.answer
    history, trial = _chosen(results, answer, trial_id)
    checkpoint = trial.checkpoints.get("best")
    if checkpoint is None:
        runs = "trials" if history is results.history else "runs"
        raise UserError(
            f"{trial.id} has no checkpoint: {_why_not_saved(results, history, trial)}; {runs} with"
            f" a checkpoint: {_saved(results, history)}"
        )
    if test and results.record.source.file is None:
        raise UserError(f"--test: {NO_CODE}")
    given, out = out, out.resolve()
    if results.folder.path.is_relative_to(out) or out.is_relative_to(results.folder.path):
        raise UserError(f"{out} contains the exported sweep or is inside it; choose another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        raise UserError(f"{given} exists and is not an empty folder; pass --force to replace it")
    if trial_id is None and results.status == "running":
        note(f"{results.folder.id} is still running: {trial.id} is the best so far")
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
    if merge and not (source / ADAPTER).is_file():
        raise UserError(f"--merge: {trial.id} trained a full model, not an adapter; omit --merge")
    best = next(report for report in trial.reports if report.number == checkpoint.number)
    provenance = {
        "sweep": results.folder.id,
        "space": results.record.space.name,
        "trial": trial.id,
        "metric": history.metric,
        "mode": history.mode,
        "value": best.metrics[history.metric],
        "metrics": finite(best.metrics),
        "epoch": finite(best.epoch),
        "step": best.step,
        "progress": best.progress,
        "params": finite(trial.params),
        "seed": trial.seed,
        **_repeats(standing(history, trial)),
        **_confirmed(answer.confirmation, trial.id),
        "answer": answer.in_json(),
        "fixed": results.record.space.fixed,
        "builder": results.record.space.builder,
        "weights_sha256": checkpoint.sha256,
        "merged": merge,
        "versions": results.record.versions,
        "git": results.record.git and dataclasses.asdict(results.record.git),
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(MARKER))
        _copy_files(results.folder.checkpoints / trial.id, partial / FILES)
        if merge:
            load_as_a_user(partial, merge_adapter)
        provenance |= _prove(results, trial, best, partial, evaluate, note)
        provenance["test"] = _test(results, trial, partial, note) if test else _untested(results)
        write_card(partial, out.name, results, history, provenance)
        (partial / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
        follow_umask(partial)  # for what `--merge` wrote, and checkpoints from before 2026-11-28
        _replace(out, partial)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise SweepError(f"cannot write {given} (nothing was left behind): {why}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return provenance


def _replace(out: Path, new: Path) -> None:
    """Replace what is at `out` with a folder; if that fails, the old content stays."""
    aside = out.with_name(f".{out.name}.replaced")
    before = out.exists()
    if before:
        shutil.rmtree(aside, ignore_errors=True)  # left by a killed export
        out.replace(aside)
    try:
        put_in_place(new, out)
    except BaseException:
        if before:
            aside.replace(out)
        raise
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink(missing_ok=True)


def _chosen(results: Results, answer: Answer, trial_id: str | None) -> tuple[History, Trial]:
    """Return the trial to export, and the history that it belongs to.

    Raises:
        UserError: There is no such trial.
    """
    history, confirmed = results.history, answer.confirmation
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
    return history.find_run(trial_id, results.folder.id)


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
        return "of the runs with the same params, only the best keeps one"
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


def _confirmed(confirmed: Confirmed | None, run: str) -> dict[str, Any]:
    """Return how a run's params did on fresh seeds, with the interval; empty for other trials."""
    if confirmed is None:
        return {}
    for arm in confirmed.arms:
        if run in arm.runs and arm.confirmed is not None:
            against = [c for c in confirmed.comparisons if c.params_set == arm.params_set]
            verdict = against[0].verdict if against else None
            numbers = dataclasses.asdict(arm.confirmed)
            return {"confirmed": {"params_of": arm.params_set, **numbers, "verdict": verdict}}
    return {}


def _copy_files(trial: Path, target: Path) -> None:
    """Copy what a trial's own code wrote beside its checkpoints."""
    for path in trial.glob("*"):
        if path.is_dir() and not is_checkpoint(path):
            shutil.copytree(path, target / path.name, ignore_dangling_symlinks=True)
        elif path.is_file():
            target.mkdir(exist_ok=True)
            shutil.copy2(path, target)


def _repeats(own: Standing | None) -> dict[str, Any]:
    """Return the result of the trial's params over all seeds, if there are several."""
    if own is None or own.repeats == 1:
        return {}
    return {"seeds": own.seeds, "mean": own.mean, "mean_error": own.error}


def _prove(
    results: Results,
    trial: Trial,
    best: Report,
    folder: Path,
    evaluate: bool,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Load what a trial saved, and evaluate it; include any code that loading it needs.

    Args:
        results: The sweep's results.
        trial: The trial.
        best: The report at which the checkpoint was saved.
        folder: The exported folder.
        evaluate: Whether to evaluate it.
        note: Called with a line before the evaluation begins.

    Returns:
        `load`: Python code that loads it; None if no code is recorded, so nothing was loaded.
        `evaluated_again`: its value, or why there is none.

    Raises:
        SweepError: The model does not load, its evaluation fails, or the value differs.
    """
    load = load_as_a_user(folder, from_pretrained)
    if results.record.source.file is None:
        return {"load": load, "evaluated_again": {"value": None, "why_not": NO_CODE}}
    if not evaluate:
        again: dict[str, Any] = {"value": None, "why_not": "it was exported with --no-evaluate"}
        if load is not None:
            return {"load": load, "evaluated_again": again}
    fetch_code(results.folder)
    if load is None:
        _copy_code(results.folder.code, folder / CODE)
    if evaluate:
        note("evaluating the exported model on the held-out rows")
    try:
        rows: Rows | None = "held-out" if evaluate else None
        told = ask(results.folder, results.record, trial, folder, rows=rows)
    except Failed as error:
        place = results.folder.place(trial.checkpoints["best"].path)
        if load is None and error.step == "loaded":
            raise SweepError(
                f"cannot load the model with the recorded code: {error}\n  checkpoint: {place}"
            ) from None
        raise SweepError(
            f"cannot evaluate the exported model again: {error}\n"
            f"  checkpoint: {place}\n"
            "  to export it without this check, pass --no-evaluate"
        ) from None
    if told.metrics is not None:
        tolerances = _compare(results, best, told)
        found = told.metrics[results.history.metric]
        again = {"value": found, "tolerances": tolerances, "metrics": finite(told.metrics)}
    return {"load": load or told.load, "evaluated_again": again}


def _test(
    results: Results, trial: Trial, folder: Path, note: Callable[[str], None]
) -> dict[str, Any]:
    """Return the exported model's value on the test split, and how often that split was read.

    Raises:
        SweepError: The model cannot be evaluated there.
    """
    fetch_code(results.folder)
    note("evaluating the exported model on the test split")
    try:
        told = ask(results.folder, results.record, trial, folder, rows="test")
    except Failed as error:
        raise SweepError(
            f"cannot evaluate the model on the test split: {error}\n  to export it without"
            " this evaluation, omit --test"
        ) from None
    assert told.metrics is not None
    value = told.metrics[results.record.space.metric]
    return {**_untested(results), "value": finite(value), "metrics": finite(told.metrics)}


def _untested(results: Results) -> dict[str, Any]:
    return {"value": None, "reads": count_test_reads(results.folder)}


def _compare(results: Results, best: Report, told: Told) -> dict[str, float]:
    """Return how much each metric of an exported model may differ from its trial's.

    Raises:
        SweepError: A metric differs by more.
    """
    assert told.metrics is not None, "it was evaluated"
    assert told.rows is not None
    assert told.device is not None
    assert told.bits is not None
    again = dataclasses.replace(best, metrics=told.metrics, **told.rows)
    conditions = Conditions(
        devices=_devices_at(best, results.events),
        workers=results.record.config.workers_per_trial,
        device=told.device,
        bits=told.bits,
    )
    return dict(check_same_model(best, again, results.history.metric, conditions))


def _devices_at(report: Report, events: Sequence[ev.Event]) -> str | None:
    """Return the kinds of devices at a report; each start of a sweep may use others."""
    devices = None
    for event in events:
        inner = event.inner if isinstance(event, ev.OfConfirmation) else event
        if isinstance(inner, ev.SweepStarted):
            devices = inner.devices
        elif isinstance(inner, ev.Reported):
            key = inner.report.trial, inner.report.number
            if key == (report.trial, report.number):
                break
    return devices


def _copy_code(code: Path, target: Path) -> None:
    for file in filter(is_copy, code.rglob("*")):
        copy = target / file.relative_to(code)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
