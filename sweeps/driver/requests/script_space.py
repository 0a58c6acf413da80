"""The search space for a script named on the command line, and the equivalent file.

Runs in the sweep process before the request. It must not know how the sweep is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search.sample import Domain

from sweeps.builders.scripts.script import Script
from sweeps.durable import write_whole
from sweeps.errors import UserError
from sweeps.report import Mode, usual_mode
from sweeps.space import domains
from sweeps.space.loading import LoadedSpace, load_space
from sweeps.space.overrides import no_usual_mode
from sweeps.space.search_space import SearchSpace
from sweeps.space.user_code import is_own


def script_space(
    script: str,
    words: Sequence[str],
    *,
    metric: str,
    mode: Mode | None,
    tune: Sequence[str],
    assignments: Sequence[str],
    save: Path | None,
) -> tuple[LoadedSpace, str]:
    """Return the space of a script, and the text of its file.

    Args:
        script: The path of a `.py` file, or a module.
        words: Its command line.
        metric: The judged metric.
        mode: None: the usual one of the metric.
        tune: `KEY=DOMAIN` texts.
        assignments: `KEY=VALUE` texts, fixed values or domains.
        save: Where to write the file; None: it is only in the sweep's folder.

    Raises:
        UserError: A text is invalid, there is no such script, the file already exists, or no mode
            is given for a metric that has no usual one.
    """
    tuned, fixed = _parsed(tune, assignments)
    mode = mode or usual_mode(metric)
    if mode is None:
        raise UserError(no_usual_mode(metric))
    located = Script(script, *words).located([Path.cwd()])
    file, own = located.script_file, is_own(str(located.script_file))
    name = file.stem
    folder = located.script_folder or Path.cwd()
    place = (save or folder / f"{name}_space.py").resolve()
    named = os.path.relpath(file, place.parent) if own and script.endswith(".py") else script
    text = _text(named, words, metric, mode, tuned, fixed)
    if save is not None:
        if place.exists():
            raise UserError(f"--save-space {save}: the file already exists; choose another name")
        write_whole(place, text)
        return load_space(str(place)), text
    space = SearchSpace(
        build_trainer=Script(named, *words), metric=metric, mode=mode, tuned=tuned, fixed=fixed
    )
    loaded = LoadedSpace(
        space=space, name=name, file=place, root=folder, folder=folder if own else None, text=text
    )
    return loaded, text


def _parsed(
    tune: Sequence[str], assignments: Sequence[str]
) -> tuple[dict[str, Domain], dict[str, Any]]:
    """Return the domains and the fixed values.

    Raises:
        UserError: Lists every invalid text.
    """
    tuned: dict[str, Domain] = {}
    fixed: dict[str, Any] = {}
    problems = []
    texts: dict[str, str] = {}
    for text in [*tune, *assignments]:
        key, equals, value_text = text.partition("=")
        if key in texts:
            problems.append(f"{texts[key]} and {text} both set {key!r}; keep one")
        texts[key] = text
        try:
            value = domains.parse(value_text)
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        if not equals:
            problems.append(f"{text!r} is not KEY=VALUE; put the script's own arguments after --")
        elif isinstance(value, Domain):
            tuned[key] = value
        elif text in tune:
            problems.append(
                f"--tune {text}: {value!r} is not a domain; to fix the value, write"
                f" {key}={value_text} without --tune"
            )
        else:
            fixed[key] = value
    if problems:
        raise UserError(problems, "the command line")
    return tuned, fixed


def _text(
    script: str,
    words: Sequence[str],
    metric: str,
    mode: Mode,
    tuned: Mapping[str, Domain],
    fixed: Mapping[str, Any],
) -> str:
    """Return the content of a space's file."""
    lines = [
        f'"""Tunes {script}."""',
        "",
        "from ray import tune",
        "",
        "from sweeps import Script, SearchSpace",
        "",
        "SEARCH_SPACE = SearchSpace(",
        "    build_trainer=Script(",
        *(f"        {word!r}," for word in (script, *words)),
        "    ),",
        f"    metric={metric!r},",
        f"    mode={mode!r},",
        "    tuned={",
        *(f"        {key!r}: tune.{domains.describe(domain)}," for key, domain in tuned.items()),
        "    },",
    ]
    if fixed:
        lines += [f"    fixed={dict(fixed)!r},"]
    return "\n".join([*lines, ")", ""])
