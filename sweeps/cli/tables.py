"""The tables that verbs print.

Used by several verbs. It must not read anything: it receives what it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sweeps.amounts import counted, duration
from sweeps.answer.digits import BEST, digits_to_tell_apart, number, one_line, percent, short
from sweeps.config import SweepConfig
from sweeps.naming import some

if TYPE_CHECKING:
    from sweeps.answer.answer import Answer

COLORS = {
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "waiting": "dim",
    "paused": "yellow",
}


class Params:
    """Params on one line: as many complete ones as fit in the column.

    Args:
        params: Values by name.
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._parts = [one_line({key: value}) for key, value in params.items()]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = " ".join(self._parts)
        for number_of_parts in range(len(self._parts) - 1, -1, -1):
            if len(shown) <= options.max_width:
                break
            shown = " ".join([*self._parts[:number_of_parts], "…"])
        yield Text(shown, no_wrap=True, overflow="ellipsis")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, len(" ".join(self._parts)))


LIKE_BEST = "≈"
"""Marks what the sweep cannot tell apart from its best."""


def plain_table(title: str, *columns: str) -> Table:
    """Return an empty table without lines, with numbers right-aligned."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i and column not in _LEFT else "left")
    return table


_LEFT = ("value", "params", "domain", "status", "checkpoint", "best trial", "metric")


def results_table(results: dict[str, Any], top: int, *, params: bool = True) -> Table:
    """Return the table of the best `top` trials of `Results.in_json()`, with or without params."""
    trials = results["trials"]
    tuned = sorted({key for trial in trials for key in trial["params"]} if params else ())
    metric = results["metric"]
    count = counted(len(trials), "trial")
    if len(trials) > top:
        count += f", best {top} shown"
    title = f"{results['sweep']}: {results['status']}, {count}"
    repeated = any("mean" in trial for trial in trials)
    means = ("mean", "error", "repeat of") if repeated else ()
    columns = (metric, *means, "status", "best at", *tuned, "train", "checkpoint")
    table = plain_table(title, "trial", *columns)
    like_best = results["answer"]["not_told_apart"] or ()
    best = trials[: min(top, BEST)]
    digits = digits_to_tell_apart(trial["value"] for trial in best)
    of_means = digits_to_tell_apart(trial.get("mean") for trial in best)
    for trial in trials[:top]:
        status = (trial["failure"] or trial["status"]).replace("_", " ")
        like = (trial.get("repeat_of") or trial["trial"]) in like_best
        table.add_row(
            f"{trial['trial']} {LIKE_BEST}" if like else trial["trial"],
            number(trial["value"], digits),
            *((number(trial["mean"], of_means), number(trial["mean_error"])) if repeated else ()),
            *((trial["repeat_of"] or "",) if repeated else ()),
            Text(status, style=COLORS.get(trial["status"], "")),
            "-" if trial["progress"] is None else percent(trial["progress"]),
            *(short(trial["params"].get(key)) for key in tuned),
            duration(trial["train_s"]),
            "gone" if trial["checkpoint_gone"] else "kept" if trial["checkpoint"] else "",
        )
    return table


def params_table(results: dict[str, Any], top: int) -> Table:
    """Return the params of the best `top` trials, for terminals too narrow for a column each."""
    table = plain_table("", "trial", "params")
    for trial in results["trials"][:top]:
        table.add_row(trial["trial"], one_line(trial["params"]))
    return table


def tie_lines(first: str, tied: Sequence[str]) -> list[str]:
    """Return a line about what ties with the first params set, if anything does."""
    if not tied:
        return []
    names = [first, *tied]
    return [
        f"{some(names, last=' and ')} tie; {first} is listed first because its number is the lowest"
    ]


def majority_lines(majority: float | None) -> list[str]:
    """Return a line on the score of a model that has learnt nothing, if it is known."""
    if majority is None:
        return []
    return [f"always answering with the most frequent class would score {number(majority)}"]


def noise_lines(results: dict[str, Any], top: int) -> list[str]:
    """Return what the mark beside trials means, and what chance alone may explain.

    Args:
        results: `Results.in_json()`.
        top: Number of trials that the table shows.
    """
    lines, answer = [], results["answer"]
    shown = {trial.get("repeat_of") or trial["trial"] for trial in results["trials"][:top]}
    if not shown.isdisjoint(answer["not_told_apart"] or ()):
        whole = all(trial["status"] == "finished" for trial in results["trials"][:top])
        far = "; trials that did not finish are compared as far as they trained"
        lines.append(f"{LIKE_BEST}: this sweep cannot tell it from the best{'' if whole else far}")
    if (noise := answer["row_noise"]) is not None:
        lines.append(
            f"the best is {number(noise['lead'])} better than the mean of the {noise['trials']}"
            f" finished trials; of {noise['trials']} equally good trials, the best would lead by"
            f" about {number(noise['by_noise'])}, by chance in the evaluation rows"
        )
    return lines


def trials_in_words(config: SweepConfig) -> str:
    """Return `32 trials`, or `32 trials: 8 params x 4 seeds`."""
    trials = counted(config.num_trials, "trial")
    if config.repeats == 1:
        return trials
    return f"{trials}: {config.params_sets} params x {config.repeats} seeds"


def so_far_lines(answer: Answer, num_trials: int) -> list[str]:
    """Return how many trials have ended, if the sweep has not.

    Args:
        answer: The sweep's answer.
        num_trials: Number of trials that the sweep will have.
    """
    if answer.status not in ("running", "interrupted"):
        return []
    ended = sum(answer.trials.values()) - answer.trials["not_ended"]
    return [f"{answer.status}: {ended} of {num_trials} trials have ended"]
