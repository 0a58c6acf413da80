"""The flags for judging by another metric, or for passing a script instead of a space.

Runs when a verb is parsed. It must not import Ray or torch, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sweeps.cli.console import console
from sweeps.errors import UserError
from sweeps.space.shipped import names_space

if TYPE_CHECKING:
    from sweeps.space.loading import LoadedSpace

_GROUP: Any = {"rich_help_panel": "Another metric, or a script instead of a space"}
Metric = Annotated[
    str | None,
    typer.Option(
        help=(
            "The metric that ranks the trials, such as eval_accuracy, instead of the space's."
            " Required if SPACE is a training script or module, whose own arguments follow --."
        ),
        **_GROUP,
    ),
]
BestMode = Annotated[
    Literal["max", "min"] | None,
    typer.Option(
        "--mode",
        help="Whether a higher (max) or a lower (min) metric is better. Default: what is usual for"
        " the metric, or the space's own mode if --metric is the space's metric.",
        **_GROUP,
    ),
]
Tune = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=DOMAIN",
        help="An argument or flag of the script, and its domain:"
        " 'learning_rate=loguniform(1e-5, 1e-4)'. Can be repeated.",
        **_GROUP,
    ),
]
SaveSpace = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the equivalent search space to FILE.", **_GROUP),
]


def space_or_script(
    space: str,
    assignments: Sequence[str],
    *,
    metric: str | None,
    mode: Literal["max", "min"] | None,
    tune: Sequence[str] | None,
    save: Path | None,
    quiet: bool = False,
) -> tuple[str | LoadedSpace, list[str]]:
    """Return what to run, and the `KEY=VALUE` texts to apply; print the space of a script.

    Raises:
        UserError: Flags for a script were given with a space, or their values are invalid.
    """
    of_script = [name for name, value in (("--tune", tune), ("--save-space", save)) if value]
    if names_space(space):
        if of_script:
            raise UserError(
                f"{', '.join(of_script)}: only for a training script; {space} is a search space,"
                " whose domains are set as KEY=DOMAIN"
            )
        judged = {"--metric": metric, "--mode": mode}
        return space, [*assignments, *(f"{key}={value}" for key, value in judged.items() if value)]
    if metric is None:
        if flags := [*(["--mode"] if mode else []), *of_script]:
            raise UserError(f"{', '.join(flags)}: tuning a training script also needs --metric")
        return space, list(assignments)
    given = sys.argv[1:]
    words = given[given.index("--") + 1 :] if "--" in given else []
    from sweeps.driver.requests.script_space import script_space

    loaded, text = script_space(
        space,
        words,
        metric=metric,
        mode=mode,
        tune=tune or [],
        assignments=assignments[: len(assignments) - len(words)],
        save=save,
    )
    if save:
        shown = f"wrote the equivalent search space to {save}; its sweeps are named {loaded.name}"
    else:
        shown = f"the equivalent search space (to save it, pass --save-space FILE):\n\n{text}"
    if not quiet:
        console.print(shown)
    return loaded, []


def misplaced_hint(option: str, words: Sequence[str]) -> str | None:
    """Return where to put an unknown option that may belong to a script; None if there is none.

    Args:
        option: The option.
        words: The command line.
    """
    if words[:1] not in (["run"], ["plan"]) or "--" in words:
        return None
    if not any(word.endswith(".py") or word.startswith("--tune") for word in words):
        return None
    return f"If {option} is an argument of the script, put it at the end, after --"
