"""`sweeps export`: write a checkpoint as a plain HF folder.

Needs no cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.answer.digits import number
from sweeps.cli import completion
from sweeps.cli.console import say, say_loading, stdout_may_fail
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName

if TYPE_CHECKING:
    from sweeps.answer.answer import Answer


def export(
    sweep: SweepName,
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    trial: Annotated[
        str | None,
        typer.Option(
            help="The trial, or the run of a confirmation, to export. Default: the best.",
            autocompletion=completion.trials,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a non-empty folder.")] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the LoRA adapter into its base model.")
    ] = False,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate/--no-evaluate",
            help=(
                "Evaluate the exported model on the held-out rows, and fail if the metric differs"
                " from the trial's."
            ),
        ),
    ] = True,
    test: Annotated[
        bool,
        typer.Option(
            "--test",
            help="Also evaluate the exported model on the test split; each use of that split is"
            " counted.",
        ),
    ] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="REPO", help="Upload the folder to this model repository on the Hub."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make that repository private.")
    ] = False,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Register the checkpoint in MLflow as a version of this model, with the alias"
            " champion.",
        ),
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Write the best checkpoint as a plain HF folder, and verify it by evaluating it again."""
    from sweeps.answer.results import read_results
    from sweeps.cli.handing_over import hand_over
    from sweeps.records.object_storage import open_sweep

    found = read_results(open_sweep(storage, sweep))
    say_loading(found.folder.id)

    hand_over(
        found,
        out,
        push_to_hub=push_to_hub,
        private=private,
        register=register,
        note=say,
        exported=lambda done: print_exported(found.answer, done, out),
        trial_id=trial,
        force=force,
        merge=merge,
        evaluate=evaluate,
        test=test,
    )


def print_exported(answer: Answer, done: Mapping[str, Any], out: Path) -> None:
    """Print what is in the folder of an export, and whether it was loaded and evaluated again.

    Args:
        answer: The sweep's answer.
        done: The content of `provenance.json`.
        out: The folder.
    """
    with stdout_may_fail(f"the export in {out} is complete"):
        _print_what_is_there(answer, done, out)


def _print_what_is_there(answer: Answer, done: Mapping[str, Any], out: Path) -> None:
    from sweeps.answer.chosen_run import in_words
    from sweeps.answer.export import FILES
    from sweeps.answer.own_model import CODE
    from sweeps.cli.summary import answer_lines

    again = done["evaluated_again"]
    if again["value"] is not None:
        proof = f"evaluated again: {number(again['value'])}"
    else:
        loaded = "loaded back" if done["load"] is not None else "not loaded back"
        proof = f"{loaded}, not evaluated again: {again['why_not']}"
    say(
        f"exported {in_words(done)} of {done['sweep']}, {done['metric']} {number(done['value'])}"
        f" at step {done['step']}, to {out}; {proof}"
    )
    if done["test"]["value"] is not None:
        times = "once" if done["test"]["reads"] == 1 else f"{done['test']['reads']} times"
        say(
            f"on the test split: {number(done['test']['value'])}; exports of this sweep have read"
            f" it {times}"
        )
    if (out / CODE).is_dir():
        say(f"the model's class is your own; to load it, run this in {out}: {done['load']}")
    if (out / FILES).is_dir():
        say(f"the files that the trial's code wrote to args.output_dir are in {out / FILES}")
    best_run = answer.confirmation.best_run if answer.confirmation is not None else None
    if answer.winner is not None and done["trial"] in (answer.winner.trial, best_run):
        for line in answer_lines(answer):
            say(line)
    elif "confirmed" in done:
        confirmed = done["confirmed"]
        say(f"its params average {number(confirmed['mean'])} over {confirmed['n']} fresh seeds")
    elif "mean" in done:
        error = f" (standard error {number(done['mean_error'])})" if done["mean_error"] else ""
        say(f"its params average {number(done['mean'])}{error} over {done['seeds']} seeds")
