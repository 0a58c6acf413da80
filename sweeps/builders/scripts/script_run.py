"""Runs a script as `__main__` up to its call of `train()`, and no further.

Runs in a worker, before each trial, in the model process and in that of a dry run. It must not know
which values a trial has. Of its changes to the process, only those that the training may need stay
until the process is reset: the main module, `sys.argv` and `sys.path`.
"""

from __future__ import annotations

import builtins
import functools
import gc
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from traceback import FrameSummary
from types import ModuleType
from typing import Any, NoReturn

import torch
import transformers
from transformers import Trainer

from sweeps.builders.scripts.around_train import blocks_around, trained_again
from sweeps.builders.scripts.leaving import Exit, Left
from sweeps.builders.scripts.program import Program
from sweeps.builders.scripts.script_parsers import FlagValues, watched_parsers
from sweeps.builders.scripts.values_in_script import given, not_of_trial, resumes
from sweeps.errors import UserError
from sweeps.space.user_code import own_line, own_line_here, problem_at

UNSEEDED = torch.Generator().initial_seed()
"""The seed of PyTorch's generators in a fresh process."""


class Ending:
    """How a script was left."""

    def __init__(self) -> None:
        self.exit = Exit()
        self.trainer: Trainer | None = None
        self.options: Mapping[str, Any] = {}
        """Further arguments that `train()` is called with."""
        self.line: int | None = None
        """The line on which the script calls `train()`."""
        self.blocks: Sequence[str] = ()
        """The `with` blocks around that line; see `blocks_around`."""
        self.problem: UserError | None = None

    def refuse(self, problem: UserError) -> NoReturn:
        """Leave the script with a problem; the first problem counts."""
        self.problem = self.problem or problem
        self.exit.leave()

    def reach(self, trainer: Trainer, options: Mapping[str, Any]) -> NoReturn:
        """Leave the script with the trainer that it was about to train.

        The first trainer counts.
        """
        if self.trainer is None:
            self.trainer, self.options = trainer, options
            frame = own_line_here()
            self.line = frame.lineno if frame else None
            self.blocks = blocks_around(self.exit.lines())
        self.exit.leave()


def run_script(
    program: Program,
    words: Sequence[str],
    values: Mapping[str, Any],
    *,
    flag_values: FlagValues,
    ending: Ending,
    **noting: Any,
) -> Trainer:
    """Run a script up to `train()` and return the trainer that it was called on.

    Args:
        program: The script.
        words: Its command line.
        values: The values that its arguments must have; see `given`.
        flag_values: The values that its parsers must return.
        ending: Records how the script is left.
        noting: Further arguments of `given`.

    Raises:
        UserError: The script does not call `train()`, creates several trainers, or uses other
            values.
    """
    main = _main_module(program)
    code = compile(program.file.read_bytes(), str(program.file), "exec", dont_inherit=True)
    sys.modules["__main__"] = main
    gc.collect()  # frees the model of the script that ran before, as in the parts of a smoke run
    sys.argv = [str(program.file), *words]
    sys.path.insert(0, str(program.root))
    torch.manual_seed(UNSEEDED)
    exited: SystemExit | None = None
    with ExitStack() as stack:
        check = stack.enter_context(given(values, ending.refuse, **noting))
        stack.enter_context(_left_at_train(ending))
        stack.enter_context(watched_parsers(flag_values, ending.refuse))
        try:
            ending.exit.run(code, vars(main))
        except SystemExit as error:
            exited = error
        except ValueError as error:
            raise no_evaluation_set(error) or error from None
        if ending.trainer is not None:
            with suppress(Left):
                check(ending.trainer.args)
    if ending.problem is not None:
        raise ending.problem
    if (trainer := ending.trainer) is None:
        raise _never_trained(program, exited)
    if problem := flag_values.problem():
        raise problem
    del trainer.train
    if ending.options:
        trainer.train = functools.partial(trainer.train, **ending.options)
    return trainer


def no_evaluation_set(error: ValueError) -> UserError | None:
    """Return the error for a trainer that HF rejects because it has nothing to evaluate."""
    frames = traceback.extract_tb(error.__traceback__)
    if Path(frames[-1].filename) != Path(transformers.trainer.__file__) or (
        "didn't pass an `eval_dataset`" not in str(error)
    ):
        return None
    return problem_at(
        own_line(frames),
        "this Trainer has no eval_dataset, but trials are judged by evaluations; add one, such as"
        " a tenth of the train rows: rows.train_test_split(0.1, seed=0)",
    )


def _main_module(program: Program) -> ModuleType:
    main = ModuleType("__main__")
    names: dict[str, Any] = {"__file__": str(program.file), "__builtins__": builtins}
    if program.module is not None:
        names |= {
            "__spec__": importlib.util.spec_from_file_location(program.module, program.file),
            "__package__": program.module.rpartition(".")[0],
        }
    vars(main).update(names)
    return main


def _never_trained(program: Program, exited: SystemExit | None) -> UserError:
    if exited is not None and exited.code not in (None, 0):
        return problem_at(
            own_line(traceback.extract_tb(exited.__traceback__)),
            f"the script ends ({exited!r}) before it trains",
        )
    return UserError(
        f"{program.file.name} ended without calling train() on a transformers.Trainer; check that"
        " this is the right script and that its arguments make it train"
    )


@contextmanager
def _left_at_train(ending: Ending) -> Iterator[None]:
    """Leave the script where it calls `train()` on the only trainer that it has created."""
    own = Trainer.__init__
    made: list[tuple[Trainer, FrameSummary | None]] = []

    @functools.wraps(own)
    def init(trainer: Trainer, *others: Any, **options: Any) -> None:
        own(trainer, *others, **options)

        def train(resume_from_checkpoint: Any = None, trial: Any = None, **more: Any) -> NoReturn:
            if len(made) > 1:
                (_, one), (_, other) = made[:2]
                where = f" (the first on line {one.lineno})" if one and other else ""
                ending.refuse(
                    problem_at(
                        other,
                        f"the script creates several trainers{where}; sweeps can train only one",
                    )
                )
            if trial is not None:
                ending.refuse(
                    problem_at(
                        own_line_here(),
                        "this runs hyperparameter_search, but the sweep itself does the search;"
                        " call train() instead",
                    )
                )
            if not_of_trial(trainer.args, resume_from_checkpoint):
                ending.refuse(resumes(own_line_here(), resume_from_checkpoint))
            if (problem := trained_again(ending.exit.lines())) is not None:
                ending.refuse(problem)
            ending.reach(trainer, more)

        trainer.train = train
        made.append((trainer, own_line_here()))

    Trainer.__init__ = init
    try:
        yield
    finally:
        Trainer.__init__ = own
