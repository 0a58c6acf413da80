"""KEY=VALUE from the command line, laid over a search space.

Runs in the sweep process before anything starts. It must not know where the space came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ray.tune.search.sample import Domain

from sweeps.errors import UserError
from sweeps.space import domains
from sweeps.space.search_space import OWNED, SearchSpace, is_dict_key, nearest, valid_keys


def override(
    space: SearchSpace, assignments: Sequence[str], argument_fields: Mapping[str, bool]
) -> tuple[SearchSpace, list[str]]:
    """Lay `KEY=VALUE` texts over a space.

    A plain value moves its key to `fixed`, a domain to `tuned`. `first_params` lose a key that
    became fixed; an entry that no longer fits is dropped.

    Args:
        space: The space as its module defines it.
        assignments: The texts.
        argument_fields: Fields of its `TrainingArguments` class: name to whether it holds a dict.

    Returns:
        The new space, and a line for each change to `first_params`.

    Raises:
        UserError: With every wrong key and value.
    """
    tuned, fixed = dict(space.tuned), dict(space.fixed)
    valid = valid_keys(space, argument_fields)
    problems: list[str] = []
    for text in assignments:
        key, equals, value_text = text.partition("=")
        if not equals:
            problems.append(f"{text!r}: not KEY=VALUE")
            continue
        if key in OWNED:
            problems.append(f"{key}: {OWNED[key]}; remove it")
            continue
        if key not in valid and not is_dict_key(key, argument_fields):
            problems.append(f"{key}: no such argument or builder keyword{nearest(key, valid)}")
            continue
        try:
            value = domains.parse(value_text)
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        tuned.pop(key, None)
        fixed.pop(key, None)
        (tuned if isinstance(value, Domain) else fixed)[key] = value
    if problems:
        raise UserError(problems, "the command line")
    changed = dataclasses.replace(space, tuned=tuned, fixed=fixed)
    return _fit_first_params(changed)


def _fit_first_params(space: SearchSpace) -> tuple[SearchSpace, list[str]]:
    kept, lines = [], []
    for i, entry in enumerate(space.first_params):
        params = {key: value for key, value in entry.items() if key in space.tuned}
        for key in entry:
            if key in params:
                continue
            lines.append(f"first_params[{i}] loses {key!r}: it is fixed now")
        wrong = [
            key
            for key, domain in space.tuned.items()
            if key not in params or not domains.contains(domain, params[key])
        ]
        if wrong or not params:
            reason = ", ".join(map(repr, sorted(wrong))) or "nothing is tuned"
            lines.append(f"first_params[{i}] is dropped: outside the space in {reason}")
        elif params in kept:
            lines.append(f"first_params[{i}] is dropped: equal to an earlier entry")
        else:
            kept.append(params)
    return dataclasses.replace(space, first_params=kept), lines
