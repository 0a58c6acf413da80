"""Loads an exported folder and evaluates it again: on the held-out rows, on the test split.

Runs wherever `export.py` does; `model_process.py` evaluates in another process. It must not know
how the folder was written.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sweeps.answer.answer import finite
from sweeps.answer.loading_back import from_pretrained, load_as_a_user
from sweeps.answer.model_process import Failed, Rows, Told, ask
from sweeps.answer.own_model import CODE
from sweeps.answer.results import Results
from sweeps.answer.same_model import Conditions, check_same_model
from sweeps.errors import SweepError
from sweeps.records import events as ev
from sweeps.records.object_storage import fetch_code
from sweeps.records.readings import count_test_reads
from sweeps.records.trial import Trial
from sweeps.report import Report
from sweeps.space.code_copy import is_copy

NO_CODE = "the search space was defined in Python, so the code of its trainer was not recorded"
NO_TEST_SPLIT = (
    "sweeps does not know the test rows: only a builder class with a method on_test() names them."
    " Export without --test, then evaluate the model with your own code"
)


def load_and_evaluate(
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


def evaluate_on_test(
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
    return {**untested(results), "value": finite(value), "metrics": finite(told.metrics)}


def untested(results: Results) -> dict[str, Any]:
    """Return what is recorded of the test split if this export does not read it."""
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
