"""Hand over a checkpoint as a plain HF folder: model or adapter, tokenizer, provenance, card.

Runs on the command line or in Python, needs no cluster; the folder is evaluated again in another
process (`model_process.py`). It must not decide which trial won: that is `answer.py`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sweeps.answer.answer import Answer, Standing, finite, standing
from sweeps.answer.confirmation import Confirmed
from sweeps.answer.model_card import write_card
from sweeps.answer.model_process import Failed, Rows, ask
from sweeps.answer.own_model import ADAPTER, CODE, misfit
from sweeps.answer.results import Results
from sweeps.durable import follow_umask, put_in_place
from sweeps.errors import SweepError, UserError
from sweeps.records.checkpoints import MARKER, is_checkpoint, is_whole, weights_sha256
from sweeps.records.history import History
from sweeps.records.object_storage import fetch_checkpoint, fetch_code, has_checkpoint
from sweeps.records.test_reads import count_test_reads
from sweeps.records.trial import Trial
from sweeps.space.code_copy import PROVENANCE, is_copy

Loaded = TypeVar("Loaded")

FILES = "files"
"""The folder for what the trial's own code wrote into `args.output_dir`."""
NO_CODE = "a search space made in Python leaves no code to build its trainer with"
TOLERANCE = 0.01
"""Share of the recorded value that the metric may differ by when the export is evaluated again:
other hardware, another precision, and batches of other rows change the last digits."""


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
        results: The sweep's.
        out: The folder to create.
        trial_id: The trial, or a run of the confirmation; None: the best run of the best params
            after a confirmation, else the winner of the sweep's answer.
        force: Whether a non-empty folder is replaced.
        merge: Whether an adapter is merged into its base model.
        evaluate: Whether the folder is evaluated on the held-out rows.
        test: Whether it is then evaluated on the test split, too.
        note: Takes a line before each of the two begins.

    Returns:
        The content of `provenance.json`.

    Raises:
        UserError: No such trial, it has no checkpoint, `out` is not empty, or there is nothing
            to merge.
        SweepError: The checkpoint is damaged or does not load, or its evaluation fails or gives
            another value than the trial reported.
    """
    answer = results.answer
    history, trial = _chosen(results, answer, trial_id)
    checkpoint = trial.checkpoints.get("best")
    if checkpoint is None:
        having = [t.id for t in history.ranked() if "best" in t.checkpoints]
        keep = results.record.config.keep_checkpoints
        kept = "trials" if history.repeats == 1 else "params, each in its best trial,"
        raise UserError(
            f"{trial.id} has no checkpoint: only the best {keep} {kept} keep one"
            f" (--keep-checkpoints); trials with a checkpoint: {', '.join(having) or 'none'}"
        )
    if test and results.record.source.file is None:
        raise UserError(f"--test: {NO_CODE}")
    given, out = out, out.resolve()
    if results.folder.path.is_relative_to(out) or out.is_relative_to(results.folder.path):
        raise UserError(f"{out} contains the exported sweep or is inside it; choose another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not force:
        raise UserError(f"{given} is not empty; --force replaces it")
    source = fetch_checkpoint(results.folder, checkpoint.path)
    if not is_whole(source):
        place = results.folder.place(checkpoint.path)
        raise SweepError(
            f"the checkpoint of {trial.id} is not there any more, or not complete: {place}"
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
            _load(partial, _merge)
        provenance |= _prove(results, trial, partial, provenance["value"], evaluate, note)
        provenance["test"] = _test(results, trial, partial, note) if test else _untested(results)
        write_card(partial, out.name, results, history, provenance)
        (partial / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
        follow_umask(partial)  # what `--merge` wrote, and checkpoints of before 2026-11-28
        _replace(out, partial)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise SweepError(f"{given} cannot be written; nothing of it is left: {why}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return provenance


def _replace(out: Path, new: Path) -> None:
    """Put a folder in the place of what is there, which stays if that fails."""
    aside = out.with_name(f".{out.name}.replaced")
    before = out.exists()
    if before:
        shutil.rmtree(aside, ignore_errors=True)  # left by an export that was killed
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
    """Return the trial to export, and the history that it is of.

    Raises:
        UserError: There is none.
    """
    history, confirmed = results.history, answer.confirmation
    if trial_id is None and confirmed is not None:
        if confirmed.best is not None and confirmed.best_run is None:
            raise UserError(
                f"no run of {confirmed.best}, the best confirmed params, has a checkpoint any more;"
                f" name another of {history.trials_in_words()} with --trial"
            )
        trial_id = confirmed.best_run
    if trial_id is None:
        if answer.winner is None:
            raise UserError(f"{results.folder.id} has no report yet: there is nothing to export")
        trial_id = answer.winner.trial
    return history.find_run(trial_id, results.folder.id)


def _instead(results: Results, history: History, lost: Trial) -> str:
    """Name the best trial that can be exported in place of one whose checkpoint is lost."""
    for trial in history.ranked():
        saved = trial.checkpoints.get("best")
        if trial is not lost and saved and has_checkpoint(results.folder, saved.path):
            value = history.value(trial)
            return (
                f"\n  the best trial with a checkpoint is now {trial.id}"
                f" ({history.metric} {value:.6g}): --trial {trial.id}"
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
    """Return the result of the trial's params over all seeds, where there are several."""
    if own is None or own.repeats == 1:
        return {}
    return {"seeds": own.seeds, "mean": own.mean, "mean_error": own.error}


def _prove(
    results: Results,
    trial: Trial,
    folder: Path,
    value: float,
    evaluate: bool,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Load what a trial saved, and evaluate it; code that is needed to load it goes along.

    Args:
        results: The sweep's.
        trial: The trial.
        folder: What is exported of it.
        value: What the trial reported.
        evaluate: Whether it is evaluated.
        note: Takes a line before that begins.

    Returns:
        `load`: Python that loads it; None where no code is recorded, so nothing was loaded.
        `evaluated_again`: its value, or why there is none.

    Raises:
        SweepError: It does not load, its evaluation fails, or the value differs.
    """
    load = _load(folder, _from_pretrained)
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
                f"the model cannot be loaded with the recorded code: {error}\n  its files: {place}"
            ) from None
        raise SweepError(
            f"the exported model cannot be evaluated again: {error}\n  its files: {place}"
            "\n  --no-evaluate exports it without this"
        ) from None
    if told.metrics is not None:
        found = told.metrics[results.record.space.metric]
        _compare(results.record.space.metric, trial.id, value, found)
        again = {"value": found, "tolerance": TOLERANCE, "metrics": finite(told.metrics)}
    return {"load": load or told.load, "evaluated_again": again}


def _test(
    results: Results, trial: Trial, folder: Path, note: Callable[[str], None]
) -> dict[str, Any]:
    """Return how good the exported model is on the test split, and how often that was read.

    Raises:
        SweepError: It cannot be evaluated there.
    """
    fetch_code(results.folder)
    note("evaluating the exported model on the test split")
    try:
        told = ask(results.folder, results.record, trial, folder, rows="test")
    except Failed as error:
        raise SweepError(f"the model cannot be evaluated on the test split: {error}") from None
    assert told.metrics is not None
    value = told.metrics[results.record.space.metric]
    return {**_untested(results), "value": finite(value), "metrics": finite(told.metrics)}


def _untested(results: Results) -> dict[str, Any]:
    return {"value": None, "reads": count_test_reads(results.folder)}


def _compare(metric: str, trial: str, reported: float, found: float) -> None:
    """Raise `SweepError` if an exported model's value is not the one that its trial reported."""
    if not math.isclose(found, reported, rel_tol=TOLERANCE, abs_tol=1e-6):
        raise SweepError(
            f"the exported model is not what {trial} reported: evaluated again, its {metric} is"
            f" {found:.6g}, not {reported:.6g} ({TOLERANCE:.0%} of difference is allowed)\n  if its"
            " evaluation draws random numbers, or ran on hardware of another precision, then"
            " --no-evaluate exports it without this"
        )


def _copy_code(code: Path, target: Path) -> None:
    for file in filter(is_copy, code.rglob("*")):
        copy = target / file.relative_to(code)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)


def _load(folder: Path, load: Callable[[Path], Loaded]) -> Loaded:
    """Load model and tokenizer as a user will.

    Raises:
        SweepError: They do not load.
    """
    import transformers

    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        return load(folder)
    except UserError:
        raise
    except Exception as error:
        raise SweepError(f"the checkpoint cannot be loaded: {error}") from error
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


def _from_pretrained(folder: Path) -> str | None:
    """Load a model as transformers or peft do; return Python for that.

    None if they do not have its class, or have another one of that name.
    """
    import transformers

    if (folder / ADAPTER).is_file():
        return _adapter_from_pretrained(folder)
    if not (folder / "config.json").is_file():
        return None
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    name = (config.get("architectures") or ["AutoModel"])[0]
    if config.get("model_type") not in transformers.CONFIG_MAPPING or name not in dir(transformers):
        return None
    if misfit(getattr(transformers, name), folder):
        return None
    if (folder / "tokenizer_config.json").is_file():
        transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return f'import transformers; model = transformers.{name}.from_pretrained(".")'


def _adapter_from_pretrained(folder: Path) -> str | None:
    """Load an adapter and, where the kind of model is enough to build it, its model below."""
    import peft

    config = peft.PeftConfig.from_pretrained(str(folder))
    if not config.base_model_name_or_path:
        return None
    if config.task_type == "CAUSAL_LM":
        peft.AutoPeftModelForCausalLM.from_pretrained(str(folder))
        return 'import peft; model = peft.AutoPeftModelForCausalLM.from_pretrained(".")'
    # The folder does not say, for example, how many classes a classifier has.
    peft.load_peft_weights(str(folder), device="cpu")
    return 'import peft; model = peft.PeftModel.from_pretrained(..., ".")'


def _merge(folder: Path) -> None:
    """Put the model with its adapter in the adapter's place, in 32 bits, as it was trained.

    Raises:
        UserError: It adapts no causal language model.
    """
    import peft

    config = peft.PeftConfig.from_pretrained(str(folder))
    if config.task_type != "CAUSAL_LM":
        raise UserError(
            f"--merge: an adapter for {config.task_type} does not describe its complete model; only"
            " adapters of causal language models can be merged"
        )
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(str(folder), dtype="float32")
    for file in folder.glob("adapter_*"):
        file.unlink(missing_ok=True)
    adapted.merge_and_unload().save_pretrained(folder)
