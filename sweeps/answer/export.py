"""Export a checkpoint as a plain HF folder: model or adapter, tokenizer, provenance, card.

Runs on the command line or in Python, and needs no cluster. It must not decide which trial is
exported (`chosen_run.py`), nor how the folder is evaluated (`evaluated_again.py`).
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.answer.answer import finite
from sweeps.answer.chosen_run import chosen_run, whole_checkpoint
from sweeps.answer.confirmation import Confirmed
from sweeps.answer.evaluated_again import (
    NO_CODE,
    NO_TEST_SPLIT,
    evaluate_on_test,
    load_and_evaluate,
    untested,
)
from sweeps.answer.loading_back import load_as_a_user, merge_adapter
from sweeps.answer.model_card import write_card
from sweeps.answer.own_model import ADAPTER
from sweeps.answer.results import Results
from sweeps.answer.standing import Standing, standing
from sweeps.durable import follow_umask, put_in_place
from sweeps.errors import SweepError, UserError
from sweeps.records.checkpoints import MARKER, is_checkpoint
from sweeps.space.code_copy import PROVENANCE

FILES = "files"
"""The folder for what the trial's own code wrote to `args.output_dir`."""


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
            merge, or no test split to evaluate on.
        SweepError: The checkpoint is damaged or does not load, or its evaluation fails or returns a
            value other than the trial's.
    """
    answer = results.answer
    history, trial = chosen_run(results, trial_id)
    if test and results.record.source.file is None:
        raise UserError(f"--test: {NO_CODE}")
    if test and not results.record.space.has_test_split:
        raise UserError(f"--test: {NO_TEST_SPLIT}")
    given, out = out, out.resolve()
    if results.folder.path.is_relative_to(out) or out.is_relative_to(results.folder.path):
        raise UserError(f"{out} contains the exported sweep or is inside it; choose another folder")
    _check_free(out, given, force)
    if trial_id is None and results.status == "running":
        note(f"{results.folder.id} is still running: {trial.id} is the best so far")
    source = whole_checkpoint(results, history, trial)
    if merge and not (source / ADAPTER).is_file():
        raise UserError(f"--merge: {trial.id} trained a full model, not an adapter; omit --merge")
    checkpoint = trial.checkpoints["best"]
    saved = next(report for report in trial.reports if report.number == checkpoint.number)
    best = history.best(trial)
    if best is not None and best.number != saved.number:
        note(
            f"{trial.id} reported its best {history.metric}, {best.metrics[history.metric]:.6g}, at"
            f" step {best.step}, but has no complete checkpoint of that step; its checkpoint of"
            f" step {saved.step} is exported"
        )
    provenance = {
        "sweep": results.folder.id,
        "space": results.record.space.name,
        "trial": trial.id,
        "metric": history.metric,
        "mode": history.mode,
        "value": saved.metrics[history.metric],
        "metrics": finite(saved.metrics),
        "epoch": finite(saved.epoch),
        "step": saved.step,
        "progress": saved.progress,
        "params": finite(trial.params),
        "seed": trial.seed,
        "failure": trial.failure,
        **(_repeats(standing(history, trial)) if history is results.history else {}),
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
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _partial(out, given) as partial:
            _check_free(out, given, force)  # another export may have filled it
            shutil.copytree(source, partial, ignore=shutil.ignore_patterns(MARKER))
            _copy_files(results.folder.checkpoints / trial.id, partial / FILES)
            if merge:
                load_as_a_user(partial, merge_adapter)
            provenance |= load_and_evaluate(results, trial, saved, partial, evaluate, note)
            provenance["test"] = (
                evaluate_on_test(results, trial, partial, note) if test else untested(results)
            )
            write_card(partial, out.name, results, history, provenance)
            (partial / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
            follow_umask(partial)  # for what `--merge` wrote
            _replace(out, partial)
    except OSError as error:
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise SweepError(f"cannot write {given} (nothing was left behind): {why}") from error
    return provenance


def _check_free(out: Path, given: Path, force: bool) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        raise UserError(
            f"{given} exists and is not an empty folder; --force (in Python, force=True)"
            " replaces it"
        )


@contextmanager
def _partial(out: Path, given: Path) -> Iterator[Path]:
    """Yield the path of a folder that becomes `out`; no other export to `out` runs meanwhile."""
    partial, lock = (out.with_name(f".{out.name}.{kind}") for kind in ("partial", "lock"))
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(lock.stat(), os.fstat(file.fileno()))
        except (BlockingIOError, FileNotFoundError):  # the other one holds it, or has just ended
            ours = False
        except OSError:  # the file system has no locks
            lock.unlink()
            raise
        if not ours:
            raise UserError(f"another export to {given} is running; wait for it to end")
        try:
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed export
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock.unlink(missing_ok=True)


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


def _confirmed(confirmed: Confirmed | None, run: str) -> dict[str, Any]:
    """Return how a run's params did on fresh seeds, with the interval; empty for other trials.

    Unlike the mean of a trial's params over its repeats, this does not count runs that failed.
    """
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
