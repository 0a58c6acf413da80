"""Calls a builder, and refuses code in it that does what `sweeps` itself does.

Runs in a worker, before each trial, and in the model process. It must not know what the builder
builds.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from traceback import FrameSummary
from typing import Any

from transformers import Trainer, TrainingArguments

from sweeps.builders.scripts.script_run import no_evaluation_set
from sweeps.errors import SweepError, UserError
from sweeps.space.no_command_line import without_command_line
from sweeps.space.search_space import OWNED
from sweeps.space.user_code import (
    ended_process,
    guarded_train,
    own_line_here,
    own_setter,
    problem_at,
)

_WHY = _TUNED, _FIXED, _OWNED = "it is tuned", "it is fixed", "sweeps sets it"
_FREE = {"report_to", "hub_token"}
"""Arguments that a builder may set although `sweeps` owns them: trackers of its own, and a secret,
which `to_dict()` replaces."""


def call_builder(
    build: Callable[[], Any],
    args: TrainingArguments,
    name: str,
    tuned: Collection[str],
    fixed: Collection[str],
) -> Trainer:
    """Return the trainer that a builder makes.

    Args:
        build: Calls the builder with `args`.
        args: The trial's arguments.
        name: The builder's name, for messages.
        tuned: The fields of `args` that are tuned.
        fixed: The fields of `args` that the space fixes.

    Raises:
        UserError: The builder trains, ends the process, reads the command line, gives the trainer
            no evaluation set, or a trainer whose arguments have other values than the space and
            `sweeps` have set.
        SweepError: The builder does not return a trainer.
    """
    kept = _Kept(args, name, tuned, fixed)
    try:
        with without_command_line(), _training_refused(args), kept.watched():
            trainer = build()
    except SystemExit as error:
        raise ended_process(error) from None
    except ValueError as error:
        raise no_evaluation_set(error) or error from None
    if not isinstance(trainer, Trainer):
        raise SweepError(
            f"build_trainer ({name}) returned {type(trainer).__name__}, not a transformers.Trainer"
        )
    if (problem := kept.problem(trainer.args)) is not None:
        raise problem
    return trainer


def _training_refused(args: TrainingArguments) -> AbstractContextManager[None]:
    """Return a context that refuses training with these arguments.

    Another trainer may train, such as that of a teacher model.
    """

    def refuse(trainer: Trainer, *_: Any, **__: Any) -> None:
        if trainer.args.output_dir == args.output_dir:
            raise problem_at(
                own_line_here(),
                "remove this call; sweeps trains the trainer that build_trainer returns",
            )

    return guarded_train(Trainer, refuse)


class _Kept:
    """The values that the space and `sweeps` have set, which the user's code must not change.

    A library may change them.
    """

    def __init__(
        self, args: TrainingArguments, name: str, tuned: Collection[str], fixed: Collection[str]
    ) -> None:
        self._args, self._name = args, name
        self._why = {
            **dict.fromkeys({*OWNED, "seed"} - _FREE, _OWNED),
            **dict.fromkeys(fixed, _FIXED),
            **dict.fromkeys(tuned, _TUNED),
        }
        fields = {each.name for each in dataclasses.fields(args)}
        kept = sorted(
            fields & self._why.keys(), key=lambda name: (_WHY.index(self._why[name]), name)
        )
        self._values = {name: copy.deepcopy(getattr(args, name)) for name in kept}
        self._made: dict[int, tuple[TrainingArguments, FrameSummary | None]] = {}
        """All arguments that were created, by id, with the line that led to it."""
        self._set: dict[tuple[int, str], FrameSummary | None] = {}
        """The line that set another value later, by the arguments' id and field; None: a library
        did."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch what creates and sets arguments, and refuse a line that sets those of the trial."""
        own_init, own_set = TrainingArguments.__post_init__, TrainingArguments.__setattr__

        def note(arguments: TrainingArguments) -> None:
            own_init(arguments)
            self._made[id(arguments)] = arguments, own_line_here()
            self._set = {key: line for key, line in self._set.items() if key[0] != id(arguments)}

        def set_field(arguments: TrainingArguments, field: str, value: Any) -> None:
            if field in self._values and _differs(value, self._values[field]):
                line = self._set[id(arguments), field] = own_setter(arguments)
                if arguments is self._args and line is not None:
                    raise self._changed(line, field, value)
            own_set(arguments, field, value)

        TrainingArguments.__post_init__, TrainingArguments.__setattr__ = note, set_field
        try:
            yield
        finally:
            TrainingArguments.__post_init__, TrainingArguments.__setattr__ = own_init, own_set

    def problem(self, arguments: TrainingArguments) -> UserError | None:
        """Return the error if the arguments of the trainer have other values; None if they do not.

        It names the values of `sweeps` only if those of the space are kept.
        """
        other = {}
        for field, value in self._values.items():
            now = getattr(arguments, field, None)
            line = self._set.get((id(arguments), field), _UNSEEN)
            if line is not None and _differs(now, value):
                other[field] = now, line
        if not other:
            return None
        for field, (now, line) in other.items():
            if isinstance(line, FrameSummary):
                return self._changed(line, field, now)
        _, line = self._made.get(id(arguments), (None, None))
        replaced = f"these arguments replace the ones passed to build_trainer ({self._name}), "
        if "output_dir" in other:
            return problem_at(
                line,
                f"{replaced}so no tuned or fixed value takes effect; remove them, and pass"
                " args=args to the Trainer",
            )
        of_space = [field for field in other if self._why[field] != _OWNED]
        wrong = ", ".join(
            f"{field} is {other[field][0]!r} instead of {self._values[field]!r}"
            for field in of_space or other
        )
        if arguments is self._args:
            return UserError(
                f"build_trainer ({self._name}) changes the arguments passed to it: {wrong}; leave"
                " these unchanged"
            )
        return problem_at(
            line,
            f"{replaced}but {wrong}; pass args=args to the Trainer, or create them with"
            " dataclasses.replace(args, ...) and leave these unchanged",
        )

    def _changed(self, line: FrameSummary, field: str, value: Any) -> UserError:
        why = self._why[field]
        instead = {
            _TUNED: ", or tune a keyword of build_trainer",
            _FIXED: ", or remove it from fixed",
            _OWNED: "",
        }[why]
        return problem_at(
            line,
            f"this sets {field} to {value!r}, but {why} ({self._values[field]!r} in this trial);"
            f" remove this line{instead}",
        )


_UNSEEN = object()
"""Nobody was seen to set the value after the arguments were created."""


def _differs(now: Any, kept: Any) -> bool:
    """Tell whether a value differs from the one to keep; a dict may have further entries."""
    if isinstance(now, dict) and isinstance(kept, dict):
        return any(key not in now or now[key] != value for key, value in kept.items())
    return bool(now != kept)
