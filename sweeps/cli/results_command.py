"""`sweeps results`: the trials of a sweep by their best report.

Reads the sweep's folder; works while the sweep runs, and needs no cluster.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from sweeps.cli.console import console, fits, print_json, say
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName
from sweeps.errors import UserError

SHOWN = 10
"""Number of trials to show without `--top`."""


def results(
    sweep: SweepName,
    as_json: Annotated[bool, typer.Option("--json", help="Print all trials as JSON.")] = False,
    top: Annotated[
        int | None, typer.Option(min=1, help="Number of trials to show. [default: 10]")
    ] = None,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Show the trials of a sweep ranked by their best report, even while it runs."""
    gc.disable()  # everything read from a log stays alive until this process ends
    from sweeps.answer.gain import gain_in_words
    from sweeps.answer.results import read_results
    from sweeps.answer.wording import unknown_in_words
    from sweeps.cli.confirmation_lines import confirmation_lines
    from sweeps.cli.summary import failure_line
    from sweeps.cli.tables import (
        majority_lines,
        noise_lines,
        params_table,
        results_table,
        so_far_lines,
        tie_lines,
    )
    from sweeps.records.object_storage import open_sweep

    if as_json and top is not None:
        raise UserError("--top has no effect with --json, which prints all trials; omit one")
    read = read_results(open_sweep(storage, sweep))
    found = read.in_json()
    if as_json:
        print_json(found)
    else:
        top = SHOWN if top is None else top
        if fits(table := results_table(found, top)):
            console.print(table)
        else:
            console.print(results_table(found, top, params=False))
            console.print(params_table(found, top))
        answer = read.answer
        for line in so_far_lines(answer, read.record.config.num_trials):
            say(line)
        if answer.winner is not None and answer.baseline is not None:
            gain = gain_in_words(
                answer.winner.params_set, answer.baseline, answer.compared, answer.gain
            )
            say(f"best: {gain}")
        ties = tie_lines(answer.winner.params_set, answer.tied) if answer.winner else []
        majority = majority_lines(answer.majority)
        unknown = unknown_in_words(answer)
        said = [f"best: {unknown}"] if unknown is not None else []
        for line in [*said, *ties, *majority, *noise_lines(found, top)]:
            say(line)
        if (confirmed := answer.confirmation) is not None:
            for line in confirmation_lines(confirmed, found["metric"]):
                say(line)
        if (reason := found["answer"]["reason"]) is not None:
            how = "failed" if found["status"] == "failed" else "ended early"
            say(f"the sweep {how}: {reason}")
        failed = [trial for trial in found["trials"] if trial["reason"]]
        for trial in failed[:top]:
            why = trial["failure"], trial["reason"], trial["traceback"]
            say(failure_line(trial["trial"], *why))
        if len(failed) > top:
            say(f"{len(failed) - top} more failed; --json shows all")
