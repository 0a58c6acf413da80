"""Calls a builder, and refuses code in it that does what `sweeps` itself does.

Runs in a worker, before each trial, and in the model process. It must not know what the builder
builds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from traceback import FrameSummary
from typing import Any

from transformers import Trainer, TrainingArguments

from sweeps.builders.script_run import no_evaluation_set
from sweeps.errors import SweepError
from sweeps.space.no_command_line import without_command_line
from sweeps.space.user_code import ended_process, guarded, own_caller, own_line_here, problem_at


def call_builder(
    build: Callable[[], Any], args: TrainingArguments, name: str, tuned: Collection[str]
) -> Trainer:
    """Return the trainer that a builder makes.

    Args:
        build: Calls the builder with `args`.
        args: The trial's arguments.
        name: The builder's name, for messages.
        tuned: The fields of `args` that are tuned.

    Raises:
        UserError: The builder trains, ends the process, reads the command line, gives the trainer
            no evaluation set, or does not use the arguments unchanged.
        SweepError: The builder does not return a trainer.
    """
    folder, kept = args.output_dir, _kept(args, {"output_dir", *tuned})
    try:
        with without_command_line(), _training_refused(args), kept, _noted_arguments() as made:
            trainer = build()
    except SystemExit as error:
        raise ended_process(error) from None
    except ValueError as error:
        raise no_evaluation_set(error) or error from None
    if not isinstance(trainer, Trainer):
        raise SweepError(
            f"build_trainer ({name}) returned {type(trainer).__name__}, not a transformers.Trainer"
        )
    if trainer.args.output_dir != folder:
        raise problem_at(
            made.get(id(trainer.args)),
            f"these arguments replace the ones passed to build_trainer ({name}), so no tuned or"
            " fixed value takes effect; remove them, and pass args=args to the Trainer",
        )
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

    return guarded(Trainer, "train", refuse)


@contextmanager
def _kept(args: TrainingArguments, fields: Collection[str]) -> Iterator[None]:
    """Keep the user's code from setting these fields of the arguments; a library may set them."""

    def set_field(arguments: TrainingArguments, field: str, value: Any) -> None:
        if arguments is args and field in fields and (given := getattr(args, field)) != value:
            why, instead = "it is tuned", ", or tune a keyword of build_trainer"
            if field == "output_dir":
                why, instead = "sweeps sets it", ""
            if (frame := own_caller()) is not None:
                raise problem_at(
                    frame,
                    f"this sets {field} to {value!r}, but {why} ({given!r} in this trial); remove"
                    f" this line{instead}",
                )
        own(arguments, field, value)

    own = TrainingArguments.__setattr__
    TrainingArguments.__setattr__ = set_field
    try:
        yield
    finally:
        TrainingArguments.__setattr__ = own


@contextmanager
def _noted_arguments() -> Iterator[dict[int, FrameSummary]]:
    """Yield a dict from the id of arguments to the line of the user's code that created them."""
    own = TrainingArguments.__post_init__
    made: dict[int, FrameSummary] = {}

    def note(arguments: TrainingArguments) -> None:
        own(arguments)
        if (frame := own_line_here()) is not None:
            made[id(arguments)] = frame

    TrainingArguments.__post_init__ = note
    try:
        yield made
    finally:
        TrainingArguments.__post_init__ = own
