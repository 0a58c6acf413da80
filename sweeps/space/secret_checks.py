"""Refuses a space that contains secrets, because every value of a space is recorded.

Runs in the sweep process, before anything is written. It must not know what the value of a secret
looks like: `secrets.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ray.tune.search.sample import Categorical

from sweeps.errors import UserError
from sweeps.secrets import named
from sweeps.space.search_space import SearchSpace

SECRET_KEY = re.compile(
    r"^token$|(?:^|_)(?:password|passwd|secret|api_?key|access_key|secret_key|private_key"
    r"|(?:hf|hub|auth|access|api|bearer)_token)(?:_|$)",
    re.IGNORECASE,
)
"""Keys that name a secret. Not every `_token` does: tokenizers have `pad_token` and `eos_token`."""
INSTEAD = (
    "everything in a space is recorded (sweep.json, MLflow); set an environment variable with a"
    " name like HF_TOKEN or X_API_KEY instead, which every worker receives"
)


def refuse_secrets(space: SearchSpace, where: str) -> None:
    """Check that no value of a space is a secret, judging by its key and by the value itself.

    Raises:
        UserError: Names the place of every secret, but never its value.
    """
    problems = []
    for place, text in _texts(space):
        key = re.findall(r"\w+", place)[-1]
        found = "a secret" if SECRET_KEY.search(key) else named(text)
        if found:
            problems.append(f"{place} contains {found}, but {INSTEAD}")
    if problems:
        raise UserError(problems, where)


def _texts(space: SearchSpace) -> Iterator[tuple[str, str]]:
    """Yield every string in a space with its place."""
    for key, domain in space.tuned.items():
        if isinstance(domain, Categorical):
            yield from _within(f"tuned[{key!r}]", list(domain.categories))
    yield from _within("fixed", space.fixed)
    for i, params in enumerate(space.first_params):
        yield from _within(f"first_params[{i}]", params)
    for name, value in space.builder.values.items():
        yield from _within(f"build_trainer.{name}", value)
    flag = ""
    for word in space.builder.command_line:
        if word.startswith("--"):
            flag, _, word = word.partition("=")
        if word:
            yield f"build_trainer {flag}", word


def _within(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _within(f"{place}[{key!r}]", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _within(place, inner)
    elif isinstance(value, str) and value:
        yield place, value
