"""Gives a script's arguments the values of a trial where the script makes them, and keeps them.

Runs where a script runs: in a worker, or in the process of a dry run. It must not know which script
that is.

A parser makes the arguments, or the script does, or the `Trainer`: each passes `__post_init__`, and
HF derives there what follows from the values. So they are set at the start of the first one, that
of a subclass included.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from sweeps.errors import UserError
from sweeps.space.arguments import OPTIM_ARGS, nested
from sweeps.space.search_space import OWNED
from sweeps.space.user_code import own_caller, problem_at


@contextmanager
def given(
    values: Mapping[str, Any],
    refuse: Callable[[UserError], None],
    ours: Collection[str] = OWNED,
    note: Callable[[TrainingArguments], None] = lambda _: None,
    changed: Callable[[TrainingArguments, str, Any], None] = lambda *_: None,
) -> Iterator[None]:
    """Set these values in all arguments that are made, and keep the script from changing them.

    Args:
        values: As `argument_values` returns them. Those that a class does not have are left out.
        refuse: Takes the error for a line of the script that changes a value.
        ours: The names for which such a line is without effect instead.
        note: Takes each arguments as the script made them.
        changed: Takes each field that a line of the script sets later, and its value.
    """
    heads = {key.partition(".")[0] for key in values}
    set_plainly = TrainingArguments.__setattr__
    begun: list[TrainingArguments] = []
    met: set[type] = set()
    watched: set[type] = set()
    undo = ExitStack()

    def set_field(arguments: TrainingArguments, field: str, value: Any) -> None:
        if type(arguments) not in met:
            met.add(type(arguments))
            watch(type(arguments))
        later = any(arguments is each for each in begun)
        if later and (line := own_caller()) is not None:
            changed(arguments, field, value)
            if field in ours:
                return
            if field in heads and (now := getattr(arguments, field)) != value:
                refuse(
                    problem_at(
                        line,
                        f"{field} would be {value!r}, but the sweep sets it, to {now!r} in this"
                        f" trial; remove this, or take {field} out of the space",
                    )
                )
        set_plainly(arguments, field, value)

    def watch(kind: type) -> None:
        owner: Any = next(each for each in kind.__mro__ if "__post_init__" in vars(each))
        if owner in watched:
            return
        watched.add(owner)
        own = owner.__post_init__

        @functools.wraps(own)
        def post_init(arguments: TrainingArguments, *others: Any) -> None:
            if not any(arguments is each for each in begun):
                note(arguments)
                begun.append(arguments)
                for field, value in _settled(values, arguments).items():
                    set_plainly(arguments, field, value)
            own(arguments, *others)

        owner.__post_init__ = post_init
        undo.callback(setattr, owner, "__post_init__", own)

    TrainingArguments.__setattr__ = set_field
    undo.callback(delattr, TrainingArguments, "__setattr__")
    with undo:
        yield


def not_given(values: Mapping[str, Any], arguments: TrainingArguments) -> list[str]:
    """Return the names of values that the class of the arguments does not have."""
    known = {field.name for field in fields(arguments)}
    return sorted(key for key in values if key.partition(".")[0] not in known)


def _settled(values: Mapping[str, Any], arguments: TrainingArguments) -> dict[str, Any]:
    """Return the value of each field, laid over the script's own."""
    known = {field.name for field in fields(arguments) if field.init}
    own = {key: value for key, value in values.items() if key.partition(".")[0] in known}
    parts = {key.partition(".")[0] for key in own if "." in key}
    return nested(own, {head: _whole(head, getattr(arguments, head)) for head in parts})


def _whole(field: str, value: Any) -> Any:
    """Return a dict argument that was given as JSON as the dict it stands for."""
    as_json = isinstance(value, str) and field != OPTIM_ARGS
    return json.loads(value) if as_json else value
