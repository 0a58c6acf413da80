"""Watches the parsers of a script's command line: the flags they know, and the values they return.

Runs where a script runs: in a worker, in the model process, or in that of a dry run. It must not
know which script that is.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from enum import Enum
from typing import Any, TypeAlias

from transformers import HfArgumentParser, TrainingArguments

from sweeps.builders.scripts.program import Flag
from sweeps.errors import UserError
from sweeps.space.user_code import own_line_here, problem_at

Parse: TypeAlias = "Callable[[Sequence[str]], Mapping[str, Any]]"
"""Called with words to add to a command line; returns what its parser reads from the whole line."""

Convert: TypeAlias = "Callable[[str, str, Any], Any]"
"""Called with a flag, a word, and what the parser has made of it with other words; returns the
value that the parser makes of the word alone."""


class FlagValues:
    """The values that the parsers of a script must return, and the flags that they know.

    Args:
        values: Values of flags, by name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._wrong: dict[str, UserError] = {}
        self.found: dict[str, Flag] = {}

    def words(self, options: Mapping[str, Flag], parse: Parse) -> list[str]:
        """Record the options of a command line; return the words to add to it."""
        self.found |= options
        return []

    def settings(self, options: Mapping[str, Flag], config: Mapping[str, Any]) -> dict[str, Any]:
        """Record the options of a config file; return the values that override it."""
        plain = {name: replace(flag, in_config=True) for name, flag in options.items()}
        self.found = {**plain, **self.found}
        return self._of(options)

    def misfit(self, whole: Sequence[str]) -> UserError | None:
        """Return why a parser may have rejected its command line; None: as the parser says.

        Args:
            whole: The flags that take only integers.
        """
        return None

    def compare(
        self,
        options: Mapping[str, Flag],
        parsed: Mapping[str, Any],
        convert: Convert,
        parse: Parse,
    ) -> None:
        """Record the flags for which a parser returns another value; its latest result counts.

        Args:
            options: The options of the parser.
            parsed: What the parser returns.
            convert: See `Convert`.
            parse: As in `words`.
        """
        for name, value in self._of(options).items():
            self._wrong.pop(name, None)
            if problem := not_reached(options[name], name, value, parsed.get(name), convert):
                self._wrong[name] = problem_at(
                    own_line_here(),
                    f"{problem}; change the flag or the command line, or remove {name} from the"
                    " space",
                )

    def problem(self) -> UserError | None:
        """Return the error if the script did not get one of the values; None if it got all."""
        if self._wrong:
            return next(iter(self._wrong.values()))
        if missed := sorted(self._values.keys() - self.found.keys()):
            return UserError(
                f"{', '.join(missed)}: a parser read this flag in the dry run, but none does in"
                " this trial, so its value has no effect"
            )
        return None

    def _of(self, options: Mapping[str, Flag]) -> dict[str, Any]:
        return {name: self._values[name] for name in options if name in self._values}


def not_reached(flag: Flag, name: str, value: Any, got: Any, convert: Convert) -> str | None:
    """Return why a flag does not have a trial's value; None if it does."""
    if _reached(value, got, lambda word: convert(name, word, got)):
        return None
    said = " ".join(flag.words(value))
    why = f"{said} does not set it" if said else "a command line cannot set it"
    return f"{name} is {got!r}, but this trial sets it to {value!r}: {why}"


def _reached(value: Any, got: Any, convert: Callable[[str], Any]) -> bool:
    """Tell whether a parser returned a value, or what it converts the text of that value to."""
    if isinstance(value, list | tuple) and isinstance(got, list | tuple):
        pairs = zip(value, got, strict=False)
        return len(value) == len(got) and all(_reached(*pair, convert) for pair in pairs)
    if isinstance(got, list | tuple) and len(got) == 1 and _reached(value, got[0], convert):
        return True
    got = got.value if isinstance(got, Enum) and not isinstance(value, Enum) else got
    if got == value or str(got) == str(value):
        return True
    if value is None or got is None or (isinstance(got, bool) and isinstance(value, int | float)):
        return False
    with suppress(Exception):  # raised by the user's own function
        made: Any = convert(str(value))
        equality: Any = type(made).__eq__
        alike = equality is object.__eq__ and type(made) is type(got)
        return alike or bool(made == got) or str(made) == str(got)
    return False


@contextmanager
def watched_parsers(flag_values: FlagValues, refuse: Callable[[UserError], None]) -> Iterator[None]:
    """Watch argparse, anything built on it, and the commands of click and typer.

    Args:
        flag_values: Records what they know and return.
        refuse: Called with the error for a command line that a parser rejects.
    """
    with ExitStack() as stack:
        stack.enter_context(_argparse(flag_values, refuse))
        watched: list[type] = []
        for module, name in (("click", "Command"), ("typer.core", "TyperCommand")):
            with suppress(ModuleNotFoundError):
                kind = getattr(importlib.import_module(module), name)
                if not issubclass(kind, tuple(watched)):
                    watched.append(kind)
                    stack.enter_context(_commands(kind, flag_values, refuse))
        yield


@contextmanager
def _argparse(flag_values: FlagValues, refuse: Callable[[UserError], None]) -> Iterator[None]:
    kind: Any = argparse.ArgumentParser
    own, own_error, own_dict = kind.parse_known_args, kind.error, HfArgumentParser.parse_dict

    def parse(parser: Any, args: Any = None, *others: Any, **more: Any) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        if any(isinstance(each, argparse._SubParsersAction) for each in parser._actions):
            return own(parser, words, *others, **more)  # the chosen subparser comes here as well
        options = _of_argparse(parser)

        def attempt(added: Sequence[str]) -> Mapping[str, Any]:
            kind.error = reject
            try:
                parsed: dict[str, Any] = vars(own(parser, [*words, *added])[0])
            finally:
                kind.error = fail
            return parsed

        result = own(parser, [*words, *flag_values.words(options, attempt)], *others, **more)
        parsed = vars(result[0])
        actions = {each.dest: each for each in parser._actions}

        def convert(name: str, word: str, got: Any) -> Any:
            if type(actions[name]).__module__ != argparse.__name__:
                return got  # a custom action may produce anything
            return (actions[name].type or str)(word)

        flag_values.compare(options, parsed, convert, attempt)
        return result

    def fail(parser: Any, message: str) -> None:
        whole = [each.dest for each in parser._actions if each.type is int]
        rejected = UserError(f"the script rejects its command line: {message}")
        refuse(flag_values.misfit(whole) or rejected)

    def reject(parser: Any, message: str) -> None:
        raise ValueError(message)

    def parse_dict(parser: Any, args: dict[str, Any], *others: Any, **more: Any) -> Any:
        optional = {each.dest: each.default for each in parser._actions if not each.required}
        given = flag_values.settings(_of_argparse(parser), {**optional, **args})
        return own_dict(parser, {**args, **given}, *others, **more)

    kind.parse_known_args, kind.error, HfArgumentParser.parse_dict = parse, fail, parse_dict
    try:
        yield
    finally:
        kind.parse_known_args, kind.error, HfArgumentParser.parse_dict = own, own_error, own_dict


def _of_argparse(parser: Any) -> dict[str, Flag]:
    """Return a parser's options by destination, except the fields of its `TrainingArguments`."""
    arguments = {
        each.name
        for kind in getattr(parser, "dataclass_types", ())
        if issubclass(kind, TrainingArguments)
        for each in fields(kind)
    }
    found: dict[str, Flag] = {}
    for action in sorted(parser._actions, key=_turns_off):
        long = [option for option in action.option_strings if option.startswith("--")]
        if not long or action.dest in arguments or action.dest == "help":
            continue
        if _turns_off(action):  # such as `--no_x`, which HF's parser adds to `--x`
            alone = Flag(option=None, spellings=_as_keys(long), takes_value=False)
            flag = found.get(action.dest, alone)
            found[action.dest] = replace(flag, off=flag.off or long[0])
            continue
        off = next((option for option in long if option.startswith("--no-")), None)
        found[action.dest] = Flag(
            option=long[0],
            spellings=_as_keys(long),
            off=off,
            takes_value=action.nargs != 0,
            may_be_empty=action.nargs == "*",
        )
    return found


def _turns_off(action: Any) -> bool:
    """Tell whether an option only sets its destination to False, such as `store_false`."""
    return action.nargs == 0 and getattr(action, "const", True) is False


@contextmanager
def _commands(
    kind: Any, flag_values: FlagValues, refuse: Callable[[UserError], None]
) -> Iterator[None]:
    own, inherits = kind.parse_args, "parse_args" not in vars(kind)

    def parse(command: Any, context: Any, args: list[str]) -> Any:
        if hasattr(command, "commands"):  # a group leaves its options to a command
            return own(command, context, args)
        options = _of_click(command)

        def attempt(added: Sequence[str]) -> Mapping[str, Any]:
            if any(getattr(each, "prompt", None) for each in command.params):
                raise ValueError("click would ask for what is missing")
            other = type(context)(command, info_name=context.info_name, parent=context.parent)
            own(command, other, [*args, *added])
            params: dict[str, Any] = other.params
            return params

        try:
            result = own(command, context, [*args, *flag_values.words(options, attempt)])
        except Exception:
            types = {each.name: getattr(each, "type", None) for each in command.params}
            whole = [key for key, of in types.items() if getattr(of, "name", "") == "integer"]
            if (problem := flag_values.misfit(whole)) is not None:
                refuse(problem)
            raise
        parameters = {each.name: each for each in command.params}

        def convert(name: str, word: str, got: Any) -> Any:
            parameter = parameters[name]
            if parameter.callback is not None:  # a callback may produce anything
                return got
            if not hasattr(parameter, "type"):  # a parameter class of typer (0.29)
                return type(got)(word)
            return parameter.type.convert(word, None, context)

        flag_values.compare(options, context.params, convert, attempt)
        return result

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
            turns_off = each.is_flag and getattr(each, "flag_value", True) is False
            off = long[0] if turns_off else next(iter(each.secondary_opts), None)
            found[each.name] = Flag(
                option=None if turns_off else long[0],
                spellings=_as_keys(long),
                off=off,
                takes_value=not each.is_flag,
            )
    return found


def _as_keys(options: Sequence[str]) -> list[str]:
    return [option.removeprefix("--").replace("-", "_") for option in options]
