"""The flags that verbs share, and those generated from the fields of `SweepConfig`.

Runs when a verb is parsed. It must not import Ray or torch, so that `--help` answers at once.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import typing
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import typer

from sweeps import config as config_module
from sweeps.cli import completion
from sweeps.config import SweepConfig
from sweeps.durations import parse_duration, written

Storage = Annotated[
    str,
    typer.Option(help="Folder for all results, or the URI of an object store: s3://BUCKET/PATH."),
]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow store. Default: the sweep's, or the storage folder's.")
]
SWEEP_HELP = "A sweep id, the beginning of one, or the name of a space for its latest sweep."
SweepName = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help=SWEEP_HELP,
        autocompletion=completion.sweeps,
    ),
]
DEFAULT_STORAGE = "results"
SEVERAL = ("trackers",)
"""Fields of `SweepConfig` with several values: their flags can be repeated."""
WHERE = ("storage", "trackers", "tracking_uri", "address", "max_concurrent")
"""Fields of `SweepConfig` that can be given with `--from`: they say where the sweep runs."""
CHANGES = ("trackers", "tracking_uri", "address", "max_concurrent", "num_trials", "time_budget")
"""Fields of `SweepConfig` that a resume may change: those of `finished.Changes`."""


GROUPS = {
    "How much": ("num_trials", "repeats", "time_budget", "max_concurrent"),
    "Workers": (
        *("workers_per_trial", "gpus_per_worker", "trials_per_gpu"),
        *("cpus_per_worker", "fresh_workers", "address"),
    ),
    "Search": ("searcher", "warm_start", "seed"),
    "Early stopping": ("scheduler", "first_rung", "reduction_factor"),
    "Faults": (
        *("smoke", "resume_every", "max_failures", "max_failed_trials"),
        *("stall_timeout", "start_timeout"),
    ),
    "Results": ("storage", "keep_checkpoints", "trackers", "tracking_uri"),
    "Options": ("tiny",),
}
"""The flags of `run` and `plan` as `--help` groups them."""
_DEFAULT = re.compile(r" Default: [^.]+\.")
"""What a field's docstring says about its default in a new sweep."""
_GROUP_OF = {field: group for group, fields in GROUPS.items() for field in fields}


def takes_config(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb `(space, assignments, config, **own)` a flag for each field of `SweepConfig`.

    A flag has its field's name; a field with several values becomes a repeatable flag in the
    singular. The help is the field's docstring. A verb that accepts None as the space can be called
    without one.
    """
    signature = inspect.signature(verb, eval_str=True)
    optional = signature.parameters["space"].annotation == str | None
    kind: Any = str | None if optional else str
    texts, kinds = _field_docs(), typing.get_type_hints(SweepConfig)
    flags = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_flag(field.name, kinds[field.name], field.default, texts[field.name]),
        )
        for field in dataclasses.fields(SweepConfig)
    ]
    leading = [
        inspect.Parameter(
            "space",
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None if optional else inspect.Parameter.empty,
            annotation=Annotated[
                kind,
                typer.Argument(
                    metavar="SPACE",
                    help="Name of a space, its dotted module name, or its .py file.",
                    autocompletion=completion.spaces,
                ),
            ],
        ),
        inspect.Parameter(
            "assignments",
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None,
            annotation=Annotated[
                list[str] | None,
                typer.Argument(
                    metavar="[KEY=VALUE]...",
                    help="Override arguments and builder fields of the space: a value fixes one,"
                    " a domain tunes it. Example:"
                    " weight_decay=0.01 learning_rate='loguniform(1e-6, 1e-4)'.",
                ),
            ],
        ),
    ]

    @functools.wraps(verb)
    def wrapper(space: str | None, assignments: list[str] | None, **values: Any) -> None:
        # Flags that were not given have SweepConfig's defaults; its error lists all problems.
        config = SweepConfig(
            **{f.name: values.pop(f.name) for f in dataclasses.fields(SweepConfig)}
        )
        verb(space, assignments or [], config, **values)

    own = list(signature.parameters.values())[3:]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters = [*leading, *flags, *own]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    del wrapper.__wrapped__
    return wrapper


def takes_changes(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb `(…, **changes)` a flag for each field of a config that a resume may change."""
    texts, kinds = _field_docs(), typing.get_type_hints(SweepConfig)
    own = inspect.signature(verb, eval_str=True).parameters.values()
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_flag(
                name,
                kinds[name] | None,
                None,
                f"{_DEFAULT.sub('', texts[name])} Default: as recorded.",
            ),
        )
        for name in CHANGES
    ]

    @functools.wraps(verb)
    def wrapper(*args: Any, **values: Any) -> None:
        verb(*args, **values)

    parameters = [*(p for p in own if p.kind is not p.VAR_KEYWORD), *flags]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    del wrapper.__wrapped__
    return wrapper


def flag_name(field: str) -> str:
    """Return the flag of a field or a parameter; if it has several values, in the singular."""
    name = field.removesuffix("s") if field in SEVERAL else field
    return f"--{name.replace('_', '-')}"


def _flag(field: str, kind: Any, default: Any, text: str) -> Any:
    name = flag_name(field)
    group: Any = {"rich_help_panel": _GROUP_OF[field]}
    if field in SEVERAL:
        several: Any = list[str] if default is not None else list[str] | None
        return Annotated[several, typer.Option(name, metavar="NAME", help=text, **group)]
    if default is True:
        name += f"/--no-{field}"
    names = typing.get_args(kind) or (kind,)
    if timedelta in names:
        if isinstance(default, timedelta):
            text += f" [default: {written(default)}]"
        option = typer.Option(
            name,
            parser=_duration,
            metavar="DURATION",
            help=text,
            show_default=False,
            **group,
        )
        return Annotated[kind, option]
    return Annotated[kind, typer.Option(name, help=text, **group)]


def _duration(text: str | timedelta) -> timedelta:
    """Return the duration that a flag gives; Typer (0.29) would add text to a `ValueError`."""
    if isinstance(text, timedelta):  # typer also parses a flag's default
        return text
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _field_docs() -> dict[str, str]:
    """Return the docstring below each field of `SweepConfig`."""
    tree = ast.parse(inspect.getsource(config_module))
    body = next(
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == SweepConfig.__name__
    )
    return {
        field.target.id: " ".join(ast.literal_eval(doc.value).split())
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
    }
