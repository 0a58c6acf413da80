"""The process of a dry run: runs the script, looks at the trainer that it hands over, and ends.

Started by `dry_run.py` with a folder as its only word; reads `asked.json` there, and writes
`found.json`. It must not train.
"""

from __future__ import annotations

import argparse
import builtins
import dataclasses
import importlib
import json
import sys
import time
import traceback
import typing
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import HfArgumentParser, Trainer, TrainingArguments

from sweeps.builders.dry_run import Flag, Found
from sweeps.builders.script_run import Ending, Program, run_script
from sweeps.errors import UserError
from sweeps.space.arguments import NEVER, owned_defaults
from sweeps.space.search_space import OWNED
from sweeps.space.user_code import is_own, own_caller, own_line, problem_at

_PRECISION = ("bf16", "fp16")
"""Switched off in a dry run, which runs on the CPU."""
_PLAIN = (str, int, float, bool, list, dict, type(None))


class _Options:
    """The options of the parsers that a script uses, and which of the flags they have taken.

    Args:
        flags: Values for options with these names.
    """

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self._left = dict(flags)
        self.found: dict[str, Flag] = {}

    def take(self, options: Mapping[str, Flag]) -> list[str]:
        """Take in the options of a parser; return the words for those that have a value."""
        given = self.take_values(options)
        return [word for name, value in given.items() for word in options[name].words(value)]

    def take_values(self, options: Mapping[str, Flag]) -> dict[str, Any]:
        """Take in the options of a parser; return the values of those that have one."""
        self.found |= options
        return {name: self._left.pop(name) for name in options if name in self._left}


def main() -> None:
    """Make the dry run that is asked for."""
    place = Path(sys.argv[1])
    asked = json.loads((place / "asked.json").read_text())
    program = Program(file=Path(asked["file"]), module=asked["module"], is_own=asked["is_own"])
    try:
        found: dict[str, Any] = dataclasses.asdict(_try(program, asked["words"], asked["flags"]))
    except UserError as error:
        found = {"problems": error.problems, "where": error.where}
    (place / "found.json").write_text(json.dumps(found))


def _try(program: Program, words: Sequence[str], flags: Mapping[str, Any]) -> Found:
    options, ending = _Options(flags), Ending()
    raw: dict[int, dict[str, Any]] = {}
    started = time.monotonic()

    later: dict[int, dict[str, Any]] = {}

    def keep(args: TrainingArguments) -> None:
        raw[id(args)] = dict(vars(args))

    def change(args: TrainingArguments, name: str, value: Any) -> None:
        later.setdefault(id(args), {})[name] = value

    with ExitStack() as stack, _refusals(ending):
        output = stack.enter_context(_scratch())
        stack.enter_context(_argparse(options, ending))
        stack.enter_context(_click(options))
        values = owned_defaults() | {
            "output_dir": output,
            "do_train": True,
            "eval_strategy": "steps",
            "eval_steps": NEVER,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            **dict.fromkeys(_PRECISION, False),
        }
        try:
            trainer = run_script(
                program,
                words,
                values,
                settings={},
                ending=ending,
                ours={*OWNED, *_PRECISION},
                note=keep,
                changed=change,
            )
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc()
            raise _failure(error) from None
        seconds = time.monotonic() - started
        own = id(trainer.args)
        values = dict(_own_values(trainer.args, raw.get(own, {}), later.get(own, {})))
        return _found(trainer, values, options, ending, seconds)


def _failure(error: Exception) -> UserError:
    line = own_line(traceback.extract_tb(error.__traceback__))
    text = str(error).strip().split("\n")[0]
    return problem_at(line, f"{type(error).__name__}: {text}" if text else repr(error))


def _found(
    trainer: Trainer, values: Mapping[str, Any], options: _Options, ending: Ending, seconds: float
) -> Found:
    kind = type(trainer.args)
    known = next(each for each in kind.__mro__ if not _is_own_class(each))
    library = {each.name for each in dataclasses.fields(known)}
    hints = typing.get_type_hints(kind) if known is not kind else {}
    plain = type(trainer) is Trainer and trainer.compute_metrics is None
    sets = trainer.eval_dataset
    return Found(
        trainer=type(trainer).__name__,
        arguments=kind.__name__,
        known_class=(known.__module__, known.__qualname__),
        own_fields=tuple(
            (each.name, _type_names(hints.get(each.name)))
            for each in dataclasses.fields(kind)
            if each.name not in library and each.init
        ),
        values=values,
        flags=options.found,
        line=ending.line,
        parameters=sum(each.numel() for each in trainer.model.parameters()),
        train_rows=_rows(trainer.train_dataset),
        eval_rows=_rows(sets),
        metrics=tuple(_losses(sets)) if plain else None,
        seconds=round(seconds, 2),
    )


def _is_own_class(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ == "__main__" or (file is not None and is_own(str(file)))


def _type_names(hint: Any) -> tuple[str, ...]:
    """Return the names of plain types; empty for any other."""
    kinds = typing.get_args(hint) or (hint,)
    names = [getattr(typing.get_origin(kind) or kind, "__name__", "") for kind in kinds]
    return tuple(names) if all(kind in _PLAIN for kind in kinds) else ()


def _own_values(
    args: TrainingArguments, raw: Mapping[str, Any], later: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield what the script sets otherwise than the class of its arguments.

    Args:
        args: The arguments.
        raw: Their values as the script made them.
        later: Those that it set afterwards.
    """
    raw = {**raw, **later}
    for each in dataclasses.fields(args):
        if each.name in OWNED or not each.init or each.name not in raw:
            continue
        value = raw[each.name]
        value = value.value if isinstance(value, Enum) else value
        default = each.default
        if default is dataclasses.MISSING and each.default_factory is not dataclasses.MISSING:
            default = each.default_factory()
        # HF makes some defaults of others: False of "no", None of nothing.
        settled = value if each.name in _PRECISION else getattr(args, each.name)
        changed = default not in (value, settled) and value is not None
        if isinstance(value, _PLAIN) and (changed or each.name == "seed"):
            yield each.name, value


def _rows(rows: Any) -> int | None:
    if isinstance(rows, dict):
        counts = [_rows(each) for each in rows.values()]
        return None if None in counts else sum(filter(None, counts))
    return len(rows) if isinstance(rows, Sized) else None


def _losses(sets: Any) -> list[str]:
    return [f"{name}_loss" for name in sets] if isinstance(sets, dict) else ["loss"]


@contextmanager
def _scratch() -> Iterator[str]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="sweeps-") as folder:
        yield folder


@contextmanager
def _refusals(ending: Ending) -> Iterator[None]:
    """Refuse a script that asks for input, or that trains in a loop of its own."""
    tensors: Any = torch.Tensor
    own_input, own_backward = builtins.input, tensors.backward
    own_accelerated = Accelerator.backward
    loop = (
        "the script trains in a loop of its own; sweeps needs a transformers.Trainer, whose"
        " train() it calls"
    )

    def ask(*_: Any) -> str:
        ending.refuse(
            problem_at(own_caller(), "asks for input; no trial can answer: make it an argument")
        )

    def backward(tensor: Any, *others: Any, **more: Any) -> Any:
        if (line := own_caller()) is not None:
            ending.refuse(problem_at(line, loop))
        return own_backward(tensor, *others, **more)

    def accelerated(accelerator: Any, *others: Any, **more: Any) -> Any:
        if (line := own_caller()) is not None:
            ending.refuse(problem_at(line, loop))
        return own_accelerated(accelerator, *others, **more)

    builtins.input = ask
    tensors.backward = backward
    Accelerator.backward = accelerated
    try:
        yield
    finally:
        builtins.input = own_input
        tensors.backward = own_backward
        Accelerator.backward = own_accelerated


@contextmanager
def _argparse(options: _Options, ending: Ending) -> Iterator[None]:
    """Note the options of `argparse` parsers, and give them their flags."""
    kind: Any = argparse.ArgumentParser
    own, own_error, own_dict = kind.parse_known_args, kind.error, HfArgumentParser.parse_dict

    def parse(parser: Any, args: Any = None, *others: Any, **more: Any) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        if not any(isinstance(each, argparse._SubParsersAction) for each in parser._actions):
            words += options.take(_of_argparse(parser))
        return own(parser, words, *others, **more)

    def fail(parser: Any, message: str) -> None:
        ending.refuse(UserError(f"its command line is refused: {message}"))

    def parse_dict(parser: Any, args: dict[str, Any], *others: Any, **more: Any) -> Any:
        given = options.take_values(_of_argparse(parser))
        return own_dict(parser, {**args, **given}, *others, **more)

    kind.parse_known_args, kind.error, HfArgumentParser.parse_dict = parse, fail, parse_dict
    try:
        yield
    finally:
        kind.parse_known_args, kind.error, HfArgumentParser.parse_dict = own, own_error, own_dict


def _of_argparse(parser: Any) -> dict[str, Flag]:
    """Return the options of a parser; fields of arguments that it makes are no options here."""
    fields = {
        each.name
        for kind in getattr(parser, "dataclass_types", ())
        if issubclass(kind, TrainingArguments)
        for each in dataclasses.fields(kind)
    }
    found = {}
    for action in parser._actions:
        long = [option for option in action.option_strings if option.startswith("--")]
        if not long or action.dest in fields or action.dest == "help":
            continue
        if action.nargs == 0 and getattr(action, "const", True) is False:
            continue  # `--no_x` beside `--x`
        off = next((option for option in long if option.startswith("--no-")), None)
        takes_value = action.nargs != 0
        found[action.dest] = Flag(option=long[0], off=off, takes_value=takes_value)
    return found


@contextmanager
def _click(options: _Options) -> Iterator[None]:
    """Note the options of click's commands, and of typer's, where these are installed."""
    with ExitStack() as stack:
        for module, name in (("click", "Command"), ("typer.core", "TyperCommand")):
            with suppress(ModuleNotFoundError):
                kind = getattr(importlib.import_module(module), name)
                stack.enter_context(_commands(kind, options))
        yield


@contextmanager
def _commands(kind: Any, options: _Options) -> Iterator[None]:
    own, inherits = kind.parse_args, "parse_args" not in vars(kind)

    def parse(command: Any, context: Any, args: list[str]) -> Any:
        if not hasattr(command, "commands"):  # a group passes them on
            args = [*args, *options.take(_of_click(command))]
        return own(command, context, args)

    kind.parse_args = parse
    try:
        yield
    finally:
        if inherits:
            del kind.parse_args
        else:
            kind.parse_args = own


def _of_click(command: Any) -> dict[str, Flag]:
    found = {}
    for each in command.params:
        long = [option for option in each.opts if option.startswith("--")]
        if long:
            off = next(iter(each.secondary_opts), None)
            found[each.name] = Flag(option=long[0], off=off, takes_value=not each.is_flag)
    return found


if __name__ == "__main__":
    main()
