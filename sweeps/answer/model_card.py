"""The model card of an export: `README.md`, for the Hub and for people.

Runs in the export. It must not decide anything: it repeats what `provenance.json` and the sweep's
record say. Its metadata must not contain paths on this machine.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.amounts import counted
from sweeps.answer.chosen_run import in_words
from sweeps.answer.confirmation import Confirmed
from sweeps.answer.digits import digits_to_tell_apart, number, short, span
from sweeps.answer.eval_results import write_eval_results
from sweeps.answer.markdown import markdown_table
from sweeps.answer.own_model import ADAPTER, CODE
from sweeps.answer.results import Results
from sweeps.answer.same_model import in_percent
from sweeps.answer.standing import interval, standing
from sweeps.answer.trained_from import (
    NONE,
    Source,
    base_model,
    builder_fields,
    licence_of,
    source_of,
)
from sweeps.answer.wording import (
    digits_of_arms,
    interval_in_words,
    unknown_in_words,
    why_no_verdict,
)
from sweeps.config import command
from sweeps.naming import some
from sweeps.records.history import History
from sweeps.records.trial import Trial
from sweeps.space.builder import EVAL, Pipeline

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

CURVES = "curves.png"
BEST = 5
"""How many params sets the card lists."""
DIGITS = 6
"""Significant digits of a value."""
TASKS = {"text-classification", "token-classification", "text-generation"}
"""Pipelines that take a text."""


def write_card(
    folder: Path, name: str, results: Results, history: History, provenance: Mapping[str, Any]
) -> None:
    """Write the card and its picture into an export.

    Args:
        folder: The export; its other files are there.
        name: The model's name.
        results: The sweep's results.
        history: The history that the exported trial belongs to.
        provenance: The content of `provenance.json`.
    """
    from huggingface_hub import ModelCard
    from huggingface_hub.constants import REPOCARD_NAME

    trial = history.trials[provenance["trial"]]
    base, rows = base_model(folder, results, trial), source_of(results, trial, "dataset")
    config = builder_fields(results, trial).get("dataset_config")
    licence = licence_of(base)
    _draw_curves(history, trial, folder / CURVES)
    data = _metadata(folder, name, results, provenance, base, rows, licence)
    text = "\n".join(
        [
            *_head(name, base, rows, licence, provenance),
            *_leaderboard(folder, rows, config, provenance),
            *_loading(folder, provenance, results.record.space.pipeline),
            *_search(results, history, trial),
            *_origin(results, provenance),
        ]
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n{text}\n").save(folder / REPOCARD_NAME)


def _draw_curves(history: History, chosen: Trial, file: Path) -> None:
    """Draw the metric of all trials over their progress, with the exported one in front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for trial in [*(t for t in history.trials.values() if t is not chosen), chosen]:
        values = [(r.progress, r.metrics.get(history.metric, math.nan)) for r in trial.reports]
        points = [point for point in values if math.isfinite(point[1])]
        look: dict[str, Any] = {"color": "0.7", "linewidth": 1, "marker": ".", "markersize": 3}
        if trial is chosen:
            look = {"color": "#1f5fa8", "linewidth": 2.5, "marker": "o", "label": trial.id}
        axes.plot([x for x, _ in points], [y for _, y in points], **look)
    axes.set_xlabel("progress of the trial")
    axes.set_ylabel(history.metric)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)


def _metadata(
    folder: Path,
    name: str,
    results: Results,
    provenance: Mapping[str, Any],
    base: Source | None,
    rows: Source | None,
    licence: str | None,
) -> ModelCardData:
    """Return the metadata for the Hub: all that is known, but nothing specific to this machine.

    The Hub takes the dataset of a value for one of its own, so a value on other rows is left out.
    """
    from huggingface_hub import EvalResult, ModelCardData

    pipeline, metric = results.record.space.pipeline, provenance["metric"]
    task = pipeline.task if pipeline else _task(folder)
    adapter = (folder / ADAPTER).is_file()
    library = "peft" if adapter else "transformers" if (folder / "config.json").is_file() else None
    relation: dict[str, Any] = {}
    if base is not None and base.on_hub:
        relation = {"base_model_relation": "adapter" if adapter else "finetune"}
    found = list[EvalResult]()
    if rows is not None and rows.on_hub:
        # The held-out rows may belong to any split.
        values = {None: provenance["value"], "test": provenance["test"]["value"]}
        found = [
            EvalResult(
                task_type=task or "other",
                dataset_type=rows.name,
                dataset_name=rows.name,
                dataset_split=split,
                dataset_revision=rows.revision,
                metric_type=metric.removeprefix(EVAL),
                metric_name=metric,
                metric_value=value,
            )
            for split, value in values.items()
            if value is not None
        ]
    return ModelCardData(
        model_name=name if found else None,
        base_model=base.name if base is not None and base.on_hub else None,
        library_name=library,
        pipeline_tag=task,
        license=licence,
        datasets=[rows.name] if rows and rows.on_hub else None,
        metrics=[metric.removeprefix(EVAL)],
        tags=["sweeps"],
        eval_results=found or None,
        **relation,
    )


def _task(folder: Path) -> str | None:
    """Return the task of the exported model's class; None if transformers does not know it."""
    from transformers.modelcard import TASK_MAPPING

    config = folder / "config.json"
    names = json.loads(config.read_text()).get("architectures") if config.is_file() else None
    for task, classes in TASK_MAPPING.items():
        for found in classes.values():  # a name, or several
            if names and names[0] in ([found] if isinstance(found, str) else found):
                return str(task)
    return None


def _head(
    name: str,
    base: Source | None,
    rows: Source | None,
    licence: str | None,
    provenance: Mapping[str, Any],
) -> Iterator[str]:
    metric, again, test = (provenance[key] for key in ("metric", "evaluated_again", "test"))
    yield f"# {name}\n"
    yield f"- Base model: {_named(base)}"
    if licence is None and base is not NONE:
        yield "- Licence: not stated, because the licence of the base model is not known here"
    yield f"- Dataset: {_named(rows)}"
    yield f"- `{metric}` on the held-out rows: **{provenance['value']:.{DIGITS}g}**"
    if again["value"] is not None:
        allowed = (f"{in_percent(share)} in `{of}`" for of, share in again["tolerances"].items())
        yield (
            f"- The exported files were evaluated again on these rows: {again['value']:.{DIGITS}g}"
            f" (allowed difference: {', '.join(allowed)})"
        )
    else:
        yield f"- Not evaluated again after the export: {again['why_not']}"
    times = {0: "not read it", 1: "read it once"}.get(
        test["reads"], f"read it {test['reads']} times"
    )
    read = f"(exports of this sweep have {times})"
    if "metrics" in test:
        value = "not finite" if test["value"] is None else f"{test['value']:.{DIGITS}g}"
        yield f"- `{metric}` on the test split {read}: **{value}**"
    else:
        yield f"- Not evaluated on the test split {read}"


def _leaderboard(
    folder: Path, rows: Source | None, config: str | None, provenance: Mapping[str, Any]
) -> Iterator[str]:
    """Write the value on the test split for a leaderboard of the Hub; yield the line about it."""
    value, metric = provenance["test"]["value"], provenance["metric"]
    if value is None or rows is None or not rows.on_hub or provenance["mode"] == "min":
        return  # a loss is not a score
    notes = f"{metric}, computed by Trainer.evaluate"
    file = write_eval_results(folder, rows.name, config, rows.revision, value, notes)
    if file is not None:
        yield f"- Entry for the leaderboard of {rows.name}: `{file}`"


def _loading(
    folder: Path, provenance: Mapping[str, Any], pipeline: Pipeline | None
) -> Iterator[str]:
    yield "\n## How to load it\n"
    load: str | None = provenance["load"]
    if load is None:
        yield "Build the model with your own code, and load the weight files into it."
        return
    statements = load.split("; ")
    tokenizer = (folder / "tokenizer_config.json").is_file()
    if tokenizer:
        imported = [] if "import transformers" in statements else ["import transformers"]
        made = 'tokenizer = transformers.AutoTokenizer.from_pretrained(".")'
        statements = [*imported, *statements, made]
    imports = list(itertools.takewhile(lambda each: each.startswith("import "), statements))
    code = "\n".join([*imports, "", *statements[len(imports) :]]).strip()
    yield f"In this folder:\n\n```python\n{code}\n```"
    if (folder / CODE).is_dir():
        yield f"\nIts class is defined in `{CODE}/`; read that code before you run it."
    elif tokenizer and pipeline is not None and pipeline.task in TASKS and "..." not in load:
        yield (
            "\nOr, from text to answer:\n\n```python\nimport transformers\n\n"
            f'pipe = transformers.pipeline("{pipeline.task}", model=".")\n'
            'print(pipe("Write your text here."))\n```'
        )


def _search(results: Results, history: History, trial: Trial) -> Iterator[str]:
    answer, space = results.answer, results.record.space
    ends = answer.trials
    total = sum(ends.values())
    device_h = answer.device_s / 3600
    yield "\n## How it was found\n"
    yield (
        f"This model was found by a sweep of {counted(total, 'trial')}"
        f" ({ends['finished']} finished, {ends['stopped_early']} stopped early,"
        f" {ends['failed']} failed) over {device_h:.3g} device-hours, ranked by"
        f" `{answer.metric}` ({answer.mode}).\n"
    )
    yield from markdown_table(
        ("tuned", "domain", f"of {trial.id}"),
        [
            (f"`{name}`", f"`{domain}`", short(trial.params.get(name, "")))
            for name, domain in space.domains.items()
        ],
    )
    yield "\nThe best params:\n"
    yield from _best(results.history)
    if (unknown := unknown_in_words(answer)) is not None:
        yield f"\nOf the best params: {unknown}."
    if answer.confirmation is not None:
        yield from _verdict(answer.confirmation)
    elif answer.not_told_apart:
        yield f"\nThe sweep cannot tell the best from {some(answer.not_told_apart)}."
    yield f"\n![{history.metric} of all trials over their progress]({CURVES})"


def _best(history: History) -> Iterator[str]:
    """Yield a table of the best params sets, with the 95 % intervals that are known.

    Params that only failed are not among them, unless they have won.
    """
    winner = history.winner()
    may = (each for each in history.ranked() if each is winner or each.status != "failed")
    standings = (standing(history, trial) for trial in may)
    best = list({own.params_set: own for own in standings if own is not None}.values())[:BEST]
    digits = digits_to_tell_apart((own.mean for own in best), DIGITS)
    rows = list[tuple[str, str, str, str]]()
    for own in best:
        found = interval(own, history.metric)
        within = span(*found, digits) if found is not None else "-"
        params = ", ".join(f"{key}={short(value)}" for key, value in own.params.items())
        rows.append((own.params_set, number(own.mean, digits), within, f"`{params}`"))
    yield from markdown_table(("trial", history.metric, "95 % interval", "params"), rows)
    if any(row[2] != "-" for row in rows):
        what = "variation between seeds" if history.repeats > 1 else "choice of held-out rows"
        yield f"\nThe intervals account for the {what}, not for picking the best of many."


def _verdict(confirmed: Confirmed) -> Iterator[str]:
    if not confirmed.ended:
        yield "\nThe confirmation with fresh seeds has not finished yet."
        return
    named = confirmed.named
    word = named.verdict if named is not None and named.verdict is not None else "none"
    why_not = why_no_verdict(named)
    because = f", because {why_not}" if why_not is not None else ""
    another = f"; {confirmed.passed_over}" if confirmed.passed_over is not None else ""
    yield (
        f"\nThe params in the next table ran again with {len(confirmed.seeds)} fresh seeds each. Is"
        f" the search's winner better than the baseline {confirmed.baseline}? Verdict:"
        f" **{word}**{because}{another}.\n"
    )
    found = [(arm, arm.confirmed) for arm in confirmed.arms if arm.confirmed is not None]
    digits = max(DIGITS, digits_of_arms(confirmed))
    rows = [
        (
            arm.params_set,
            f"{number(over.mean, digits)}"
            f"{f' ({arm.failed} of {len(arm.values)} runs failed)' if arm.failed else ''}",
            interval_in_words(over, digits) or "-",
        )
        for arm, over in found
    ]
    yield from markdown_table(("params of", "mean", "95 % interval"), rows)


def _origin(results: Results, provenance: Mapping[str, Any]) -> Iterator[str]:
    record = results.record
    yield "\n## Where it comes from\n"
    sweep, seed = provenance["sweep"], provenance["seed"]
    yield f"- Sweep `{sweep}`, trial {in_words(provenance)}, seed {seed}"
    yield f"- At optimizer step {provenance['step']}, epoch {provenance['epoch']:.3g}"
    if record.git is not None:
        dirty = ", with uncommitted changes" if record.git.dirty else ""
        yield f"- Commit of the search space: `{record.git.commit}`{dirty}"
    for name, commit in dict(record.space.fields.get("revisions") or {}).items():
        yield f"- Revision of {name}: `{commit}`"
    versions = ", ".join(f"{name} {version}" for name, version in record.newest_versions.items())
    yield f"- Versions: {versions}"
    yield f"- SHA-256 of the trained weights: `{provenance['weights_sha256']}`"
    if record.source.file is None:
        yield (
            f"\nThe sweep was started from Python (`{record.command}`) with a space that has no"
            " file, so it cannot be repeated from its record."
        )
        return
    yield (
        "\nThe command that ran the sweep, and the one that repeats it where the sweep is stored:\n"
    )
    words = ["run", "--from", provenance["sweep"]]
    if provenance["trial"] in results.history.trials:
        words += ["--trial", provenance["trial"]]
    again = command(*words, storage=record.config.storage)
    yield f"```bash\n{record.command}\n{again}\n```"


def _named(source: Source | None) -> str:
    if source is None:
        return "not stated by the builder"
    if source is NONE:
        return source.name
    if not source.on_hub:
        return f"`{source.name}`, a local folder"
    revision = f" at `{source.revision}`" if source.revision else ""
    return f"[{source.name}](https://huggingface.co/{source.name}){revision}"
