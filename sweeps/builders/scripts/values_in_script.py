"""Sets the values of a trial in a script's arguments when they are created, and protects them.

Runs where a script runs: in a worker, in the model process, or in that of a dry run. It must not
know which script that is.

The arguments may be created by a parser, by the script itself, or by the `Trainer`. In each case
`__post_init__` runs, in which HF derives further values. So a trial's values are set at the start
of the first `__post_init__` that runs, which may be that of a subclass.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from traceback import FrameSummary
from typing import Any

from transformers import TrainingArguments

from sweeps.errors import UserError
from sweeps.space.arguments import OPTIM_ARGS, fewer_rows, nested
from sweeps.space.search_space import OWNED
from sweeps.space.user_code import own_caller, own_line_here, own_setter, problem_at

_RESUME = "resume_from_checkpoint"


@contextmanager
def given(
    values: Mapping[str, Any],
    refuse: Callable[[UserError], None],
    reduced: Collection[str] = (),
    ours: Collection[str] = OWNED,
    note: Callable[[TrainingArguments], None] = lambda _: None,
    changed: Callable[[TrainingArguments, str, Any], None] = lambda *_: None,
) -> Iterator[Callable[[TrainingArguments], None]]:
    """Set these values in all arguments that are created, and keep the script from changing them.

    Yields a function that checks the arguments of a trainer, since some changes go unnoticed.

    Args:
        values: As returned by `argument_values`. Values that a class does not have are left out.
        refuse: Called with the error if a line of the script changes a value.
        reduced: The phases that run with fewer rows per device than these values and the script's
            own imply.
        ours: Fields for which such a line has no effect and is not refused.
        note: Called with each arguments object as the script created it.
        changed: Called with the arguments, field and value if the script sets a field later.
    """
    heads = {key.partition(".")[0] for key in values}
    set_plainly = TrainingArguments.__setattr__
    made: list[_Made] = []
    met: set[type] = set()
    watched: set[type] = set()
    undo = ExitStack()

    def found(arguments: TrainingArguments) -> _Made | None:
        """Return what is known about an arguments object; None while it is being created.

        A copy has the values of the latest arguments of its class.
        """
        for each in made:
            if each.arguments is arguments:
                return each
        whole = all(field.name in vars(arguments) for field in fields(arguments) if field.init)
        alike = [each for each in made if type(each.arguments) is type(arguments)]
        if not whole or not alike:  # these are still being created
            return None
        made.append(_Made(arguments, dict(alike[-1].values), settled=True))
        return made[-1]

    def check(arguments: TrainingArguments) -> None:
        known = found(arguments)
        for field, value in known.values.items() if known else ():
            now = getattr(arguments, field)
            if field not in ours and now is not value and now != value:
                refuse(_changed(None, field, now, value))

    def set_field(arguments: TrainingArguments, field: str, value: Any) -> None:
        if type(arguments) not in met:
            met.add(type(arguments))
            watch(type(arguments))
        if (known := found(arguments)) is not None:
            line = own_setter(arguments) if known.settled else own_caller()
            if line is not None:
                changed(arguments, field, value)
                if field == _RESUME and not_of_trial(arguments, value):
                    refuse(resumes(line, value))
                if field in ours:
                    return
                if field in heads and (now := getattr(arguments, field)) != value:
                    refuse(_changed(line, field, value, now))
            elif field in known.values:
                known.values[field] = value  # a change by a library
        set_plainly(arguments, field, value)

    def watch(kind: type) -> None:
        owner: Any = next(each for each in kind.__mro__ if "__post_init__" in vars(each))
        if owner in watched:
            return
        watched.add(owner)
        own = owner.__post_init__

        @functools.wraps(own)
        def post_init(arguments: TrainingArguments, *others: Any) -> None:
            if any(each.arguments is arguments for each in made):  # called by a subclass's
                own(arguments, *others)
                return
            if isinstance(checkpoint := getattr(arguments, _RESUME), str):
                refuse(resumes(own_line_here(), checkpoint))
            note(arguments)
            known = _Made(arguments)
            made.append(known)
            settled = _settled(values, arguments)
            for phase in reduced:
                settled |= fewer_rows({**vars(arguments), **settled}, phase)
            heads.update(settled)
            for field, value in settled.items():
                set_plainly(arguments, field, value)
            own(arguments, *others)
            names = {field.name for field in fields(arguments)}
            known.values = {name: getattr(arguments, name) for name in heads & names}
            known.settled = True

        owner.__post_init__ = post_init
        undo.callback(setattr, owner, "__post_init__", own)

    TrainingArguments.__setattr__ = set_field
    undo.callback(delattr, TrainingArguments, "__setattr__")
    with undo:
        yield check


@dataclass
class _Made:
    """Arguments that the script has created."""

    arguments: TrainingArguments
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The values of the sweep after `__post_init__` has processed them."""
    settled: bool = False
    """Whether `__post_init__` has ended."""


def _changed(line: FrameSummary | None, field: str, value: Any, ours: Any) -> UserError:
    what, where = ("this", "this line") if line is not None else ("the script", "what sets it")
    return problem_at(
        line,
        f"{what} sets {field} to {value!r}, but the sweep sets it to {ours!r} in this trial; remove"
        f" {where}, or remove {field} from the space",
    )


def not_of_trial(arguments: TrainingArguments, checkpoint: Any) -> bool:
    """Tell whether a checkpoint to resume from is outside the trial's own folder."""
    return isinstance(checkpoint, str) and not Path(checkpoint).is_relative_to(
        str(arguments.output_dir)
    )


def resumes(line: FrameSummary | None, checkpoint: Any) -> UserError:
    """Return the error for a script that would resume from a checkpoint."""
    return problem_at(
        line,
        f"the training would resume from {checkpoint}, but every trial must start at step 0; remove"
        f" {_RESUME}, and load these weights as the model instead",
    )


def not_given(values: Mapping[str, Any], arguments: TrainingArguments) -> list[str]:
    """Return the names of values that the argument class has no field for."""
    known = {field.name for field in fields(arguments)}
    return sorted(key for key in values if key.partition(".")[0] not in known)


def _settled(values: Mapping[str, Any], arguments: TrainingArguments) -> dict[str, Any]:
    """Return the value of each field, applied on top of the script's own values."""
    known = {field.name for field in fields(arguments) if field.init}
    own = {key: value for key, value in values.items() if key.partition(".")[0] in known}
    parts = {key.partition(".")[0] for key in own if "." in key}
    return nested(own, {head: _whole(head, getattr(arguments, head)) for head in parts})


def _whole(field: str, value: Any) -> Any:
    """Return a dict argument as a dict, even if it was passed as JSON."""
    as_json = isinstance(value, str) and field != OPTIM_ARGS
    return json.loads(value) if as_json else value
