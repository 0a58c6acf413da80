"""The process of a dry run: runs the script, inspects the trainer that it creates, and ends.

Started by `dry_run.py` with a folder as its only argument; reads `asked.json` there, and writes
`found.json`. It must not train.
"""

from __future__ import annotations

import builtins
import dataclasses
import inspect
import json
import os
import re
import sys
import tempfile
import time
import traceback
import typing
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from ray.tune.search.sample import Domain
from transformers import Trainer, TrainingArguments

from sweeps.builders.own_optimizer import create_own, ignored_arguments
from sweeps.builders.scripts.dry_run import Found
from sweeps.builders.scripts.no_trackers import without_trackers
from sweeps.builders.scripts.offered_flags import Offered
from sweeps.builders.scripts.program import Program
from sweeps.builders.scripts.script_run import Ending, run_script
from sweeps.errors import UserError
from sweeps.space import domains
from sweeps.space.arguments import NEVER, owned_defaults
from sweeps.space.plain_values import plain
from sweeps.space.search_space import OWNED
from sweeps.space.user_code import is_own, own_caller, own_line, problem_at

_PRECISION = ("bf16", "fp16")
"""Turned off in a dry run, which runs on the CPU."""
_PLAIN = (str, int, float, bool, list, dict, type(None))


def main() -> None:
    """Perform the dry run that `asked.json` describes."""
    place = Path(sys.argv[1])
    asked = json.loads((place / "asked.json").read_text())
    without_trackers(place / "mlruns")
    program = Program(file=Path(asked["file"]), module=asked["module"], is_own=asked["is_own"])
    try:
        offered = Offered(asked["flags"], dict(_parsed(asked["domains"])))
        mirror = asked.get("mirror")
        found: dict[str, Any] = dataclasses.asdict(_try(program, asked["words"], offered, mirror))
    except UserError as error:
        found = {"problems": error.problems, "where": error.where}
    (place / "found.json").write_text(json.dumps(found))


def _parsed(texts: Mapping[str, str]) -> Iterator[tuple[str, Domain]]:
    """Yield the domains that can be searched; the sweep process reports the others."""
    for name, text in texts.items():
        with suppress(ValueError):
            domain = domains.parse(text)
            if isinstance(domain, Domain):
                yield name, domain


def _try(program: Program, words: Sequence[str], offered: Offered, mirror: str | None) -> Found:
    ending = Ending()
    raw: dict[int, dict[str, Any]] = {}
    started = time.monotonic()

    later: dict[int, dict[str, Any]] = {}

    def keep(args: TrainingArguments) -> None:
        raw[id(args)] = dict(vars(args))

    def change(args: TrainingArguments, name: str, value: Any) -> None:
        later.setdefault(id(args), {})[name] = value

    with ExitStack() as stack, _refusals(ending):
        output = stack.enter_context(tempfile.TemporaryDirectory(prefix="sweeps-"))
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
                flag_values=offered,
                ending=ending,
                ours={*OWNED, *_PRECISION},
                note=keep,
                changed=change,
            )
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc()
            raise _failure(error, mirror) from None
        seconds = time.monotonic() - started
        own = id(trainer.args)
        values = dict(_own_values(trainer.args, raw.get(own, {}), later.get(own, {})))
        return _found(trainer, values, offered, ending, seconds)


def _failure(error: Exception, mirror: str | None) -> UserError:
    line = own_line(traceback.extract_tb(error.__traceback__))
    text = str(error).strip().split("\n")[0]
    text = f"{type(error).__name__}: {text}" if text else repr(error)
    return problem_at(line, text + (_not_copied(error, mirror) if mirror else ""))


def _not_copied(error: Exception, mirror: str) -> str:
    """Return what to do about something that only the original of the script's folder has.

    Args:
        error: The error of the script, which ran in a copy.
        mirror: The folder below which the copy has the whole path of the original.
    """
    copied = "; trials run a copy of the script's folder, which does not include"
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        parts = error.name.split(".")
        for entry in (each for each in sys.path if each.startswith(mirror)):
            folder = Path(os.path.normpath(entry.removeprefix(mirror)))
            place = folder.joinpath(*parts)
            if place.is_dir() or place.with_suffix(".py").is_file():
                return f"{copied} {folder}; set PYTHONPATH={folder}"
    for path in re.findall(rf"{re.escape(mirror)}[^\s'\",:]+", str(error)):
        original = Path(os.path.normpath(path.removeprefix(mirror)))
        if original.exists() and not Path(path).exists():
            return f"{copied} {original}; use the path {original}"
    return ""


def _found(
    trainer: Trainer,
    values: Mapping[str, Any],
    offered: Offered,
    ending: Ending,
    seconds: float,
) -> Found:
    kind = type(trainer.args)
    known = _known_class(kind)
    library = {each.name for each in dataclasses.fields(known)}
    hints = typing.get_type_hints(kind) if known is not kind else {}
    sets = trainer.eval_dataset
    create_own(trainer)
    return Found(
        trainer=type(trainer).__name__,
        arguments=kind.__name__,
        known_class=(known.__module__, known.__qualname__),
        own_fields=tuple(
            (each.name, _type_names(hints.get(each.name)))
            for each in dataclasses.fields(kind)
            if each.name not in library and each.init
        ),
        parameters_of_init=tuple(_parameters_of_init(kind)),
        values=values,
        ignored=ignored_arguments(trainer),
        flags=offered.found,
        flag_values=offered.own,
        tried_values=offered.tried,
        line=ending.line,
        blocks=tuple(ending.blocks),
        parameters=sum(each.numel() for each in trainer.model.parameters()),
        train_rows=_rows(trainer.train_dataset),
        eval_rows=_rows(sets),
        eval_sets={name: _rows(rows) for name, rows in sets.items()}
        if isinstance(sets, dict)
        else {},
        metrics=tuple(_losses(sets)) if _returns_only_losses(trainer) else None,
        seconds=round(seconds, 2),
    )


def _returns_only_losses(trainer: Trainer) -> bool:
    """Tell whether only HF's own code makes the metrics of an evaluation, without further ones."""
    plain = type(trainer) is Trainer and trainer.compute_metrics is None
    # HF passes its metrics to callbacks, which may add some.
    events = [
        getattr(type(callback), event)
        for callback in trainer.callback_handler.callbacks
        for event in ("on_evaluate", "on_log")
    ]
    return plain and all(
        code.__module__.startswith("transformers.") for code in (trainer.evaluate, *events)
    )


def _known_class(kind: type[TrainingArguments]) -> Any:
    """Return the class of a script's arguments, or its nearest base class that is a library's."""
    return next(each for each in kind.__mro__ if not _is_own_class(each))


def _is_own_class(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ == "__main__" or (file is not None and is_own(str(file)))


def _parameters_of_init(kind: type[TrainingArguments]) -> Iterator[str]:
    """Yield the named parameters of the user's own `__init__` that are not fields."""
    fields = {each.name for each in dataclasses.fields(kind)}
    own = [vars(each).get("__init__") for each in kind.__mro__ if _is_own_class(each)]
    for init in filter(None, own):
        _, *parameters = inspect.signature(init).parameters.values()
        for each in parameters:
            named = each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
            if named and each.name not in fields:
                yield each.name


def _type_names(hint: Any) -> tuple[str, ...]:
    """Return the names of plain types; empty for any other type."""
    kinds = typing.get_args(hint) or (hint,)
    names = [getattr(typing.get_origin(kind) or kind, "__name__", "") for kind in kinds]
    return tuple(names) if all(kind in _PLAIN for kind in kinds) else ()


def _own_values(
    args: TrainingArguments, raw: Mapping[str, Any], later: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the values that differ from the defaults of the known class, and those of own fields.

    Args:
        args: The arguments.
        raw: Their values as the script created them.
        later: The values that the script set afterwards.
    """
    raw = {**raw, **later}
    library = {each.name: each for each in dataclasses.fields(_known_class(type(args)))}
    for each in dataclasses.fields(args):
        if each.name in OWNED or not each.init or each.name not in raw:
            continue
        value = plain(raw[each.name])
        if not isinstance(value, _PLAIN) or not _has_json(value):
            continue
        if each.name in library:
            default = _default(library[each.name])
            # HF converts some values as it creates the arguments, such as "no" to False.
            settled = value if each.name in _PRECISION else getattr(args, each.name)
            changed = default not in (value, settled) and value is not None
            if not changed and each.name != "seed":
                continue
        yield each.name, value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _has_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _rows(rows: Any) -> int | None:
    if isinstance(rows, dict):
        counts = [_rows(each) for each in rows.values()]
        return None if None in counts else sum(filter(None, counts))
    return len(rows) if isinstance(rows, Sized) else None


def _losses(sets: Any) -> list[str]:
    return [f"{name}_loss" for name in sets] if isinstance(sets, dict) else ["loss"]


@contextmanager
def _refusals(ending: Ending) -> Iterator[None]:
    """Refuse a script that asks for input, or that has its own training loop."""
    tensors: Any = torch.Tensor
    own_input, own_backward = builtins.input, tensors.backward
    own_accelerated = Accelerator.backward
    loop = (
        "the script has its own training loop, but sweeps can only tune scripts that call train()"
        " on a transformers.Trainer"
    )

    def ask(*_: Any) -> str:
        ending.refuse(
            problem_at(
                own_caller(),
                "asks for input, which no trial can give; make this value an argument",
            )
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


if __name__ == "__main__":
    main()
