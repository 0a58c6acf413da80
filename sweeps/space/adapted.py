"""A builder with every member of the contract: its own, or the default.

Runs wherever a builder is checked or called. Only this module checks whether a builder has a
member. It must not know about any shipped builder.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sweeps.space.builder import DATA, EVAL, STREAM, Pipeline

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(frozen=True)
class Adapted:
    """A builder with every member, and with what the sweep needs to know about its signature."""

    own: Callable[..., Any]
    """The builder itself."""

    @property
    def has_fields(self) -> bool:
        """Whether its keywords are the fields of a dataclass."""
        return dataclasses.is_dataclass(self.own) and not isinstance(self.own, type)

    @property
    def name(self) -> str:
        """The name of the function, or of the builder's class."""
        return str(getattr(self._code, "__name__", type(self._code).__name__))

    @property
    def text(self) -> str:
        """The builder with its fields, or the dotted name of a function."""
        own: Any = self.own
        if inspect.isroutine(own) or isinstance(own, type):
            return f"{own.__module__}.{own.__qualname__}"
        return repr(own)

    @property
    def module(self) -> ModuleType | None:
        """The module of the function or class; None if Python finds no module."""
        named = inspect.isroutine(self._code) or isinstance(self._code, type)
        return inspect.getmodule(self._code if named else type(self._code))

    @property
    def _code(self) -> Any:
        """The builder, or what a `functools.partial` calls."""
        code: Any = self.own
        while isinstance(code, functools.partial):
            code = code.func
        return code

    @property
    def keywords(self) -> frozenset[str]:
        """The keywords that can be tuned or fixed."""
        if self.keyword_names is not None:
            return self.keyword_names
        if self.has_fields:
            return frozenset(field.name for field in self._fields if field.init)
        parameters = list(inspect.signature(self.own).parameters.values())[1:]
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return frozenset(p.name for p in parameters if p.kind in kinds and p.name != DATA)

    @property
    def keyword_names(self) -> frozenset[str] | None:
        """The keywords that the builder lists; None if its signature shows them."""
        names = self._member("keyword_names")
        return None if names is None else frozenset(names)

    @property
    def values(self) -> dict[str, Any]:
        """The values of its fields; empty for a function."""
        return {field.name: getattr(self.own, field.name) for field in self._fields}

    @property
    def given(self) -> dict[str, Any]:
        """The values of its fields, except for those that are their field's default."""
        defaults = {field.name: field.default for field in self._fields}
        return {key: value for key, value in self.values.items() if value is not defaults[key]}

    def with_values(self, values: Mapping[str, Any]) -> Adapted:
        """Return the builder with its fields set from `values`; other keys are ignored.

        A function stays as it is.
        """
        if not self.has_fields:
            return self
        own = {name: value for name, value in values.items() if name in self.keywords}
        return Adapted(dataclasses.replace(self.own, **own))  # type: ignore[type-var]

    def __call__(self, args: Any, keywords: Mapping[str, Any], **data: Any) -> Any:
        """Return the trainer that the builder makes; a function also receives the keywords."""
        return self.own(args, **({} if self.has_fields else keywords), **data)

    @property
    def checks(self) -> bool:
        """Whether the builder has a `check()`."""
        return self._member("check") is not None

    def check(self) -> None:
        """Let the builder raise `UserError` with everything that is wrong."""
        if self.checks:
            self._member("check")()

    def pin(self) -> Adapted:
        """Return the pinned builder; the same one if there is nothing to pin."""
        pin = self._member("pin")
        return Adapted(pin()) if pin else self

    @property
    def prepares(self) -> bool:
        """Whether the builder prepares data; it is then called with that data."""
        return self._member("prepare") is not None

    def prepare(self) -> Any:
        """Return the prepared data; call this only if the builder `prepares`."""
        return self._member("prepare")()

    def tiny(self) -> Adapted | None:
        """Return the tiny builder; None if there is none."""
        tiny = self._member("tiny")
        return Adapted(tiny()) if tiny else None

    @property
    def has_test_split(self) -> bool:
        """Whether the builder has an `on_test()`."""
        return self._member("on_test") is not None

    def on_test(self) -> Adapted | None:
        """Return the builder that evaluates the test split; None if there is none."""
        on_test = self._member("on_test")
        return Adapted(on_test()) if on_test else None

    def count_rows(self) -> tuple[int | None, int | None]:
        """Return the number of rows to train on and to evaluate on; None if unknown."""
        count = self._member("count_rows")
        train, evaluation = count() if count else (None, None)
        return train, evaluation

    @property
    def eval_sets(self) -> Mapping[str, int | None]:
        """The rows of each evaluation set, by name, if several are known."""
        sets: Mapping[str, int | None] = self._member("eval_sets", {})
        return sets

    @property
    def data_fields(self) -> frozenset[str]:
        """The keywords that `prepare()` reads."""
        return self.keywords.intersection(self._member("data_fields", self.keywords))

    @property
    def path_fields(self) -> frozenset[str]:
        """The keywords that may name a path."""
        return self.keywords.intersection(self._member("path_fields", self.keywords))

    def may_be_path(self, keyword: str, value: str) -> bool:
        """Tell whether this value of a keyword may be a path."""
        any_word = self.has_fields or self._member("path_fields") is not None
        return keyword in self.path_fields and (any_word or "/" in value)

    @property
    def stream(self) -> bool:
        """Whether Ray Data streams its prepared train rows to the workers."""
        return self.prepares and bool(self._member(STREAM))

    @property
    def revisions(self) -> dict[str, str]:
        """The pinned revisions; empty if there are none."""
        return dict(self._member("revisions", {}))

    @property
    def metric_names(self) -> list[str] | None:
        """The metrics that the evaluation returns, by HF's names.

        None if the builder does not say.
        """
        names = None if self._evaluates_otherwise() else self._member("metric_names")
        if names is None:
            return None
        return sorted(f"{EVAL}{name.removeprefix(EVAL)}" for name in names)

    @property
    def pipeline(self) -> Pipeline | None:
        """How the trained model is served; None if the builder does not say."""
        found: Pipeline | None = self._member("pipeline")
        return found

    @property
    def makes_arguments(self) -> bool:
        """Whether the builder creates the arguments itself, and is called with their values."""
        return bool(self._member("makes_arguments"))

    def with_fewer_rows(self, phases: Collection[str]) -> Adapted:
        """Return the builder that uses fewer rows; the same one if it receives its arguments."""
        reduce = self._member("with_fewer_rows")
        return Adapted(reduce(phases)) if reduce else self

    @property
    def argument_class(self) -> type[TrainingArguments] | None:
        """The class of the arguments, if the builder specifies it."""
        found: type[TrainingArguments] | None = self._member("argument_class")
        return found

    @property
    def argument_values(self) -> dict[str, Any]:
        """Values of arguments that the builder sets; the space overrides them."""
        return dict(self._member("argument_values", {}))

    @property
    def ignored_arguments(self) -> dict[str, str]:
        """Arguments that have no effect, each with the reason."""
        return dict(self._member("ignored_arguments", {}))

    @property
    def spellings(self) -> dict[str, str]:
        """The keys of a space by their other spellings."""
        return dict(self._member("spellings", {}))

    @property
    def not_settable(self) -> dict[str, str]:
        """What looks like a key of a space and is none, each with the reason."""
        return dict(self._member("not_settable", {}))

    @property
    def keyword_values(self) -> dict[str, Any]:
        """Values that tuned keywords have unless the space sets them, where known."""
        return dict(self._member("keyword_values", {}))

    @property
    def tried_values(self) -> dict[str, Any]:
        """Values that tuned keywords had in the dry run."""
        return dict(self._member("tried_values", {}))

    @property
    def command_line(self) -> Sequence[str]:
        """The words of a script's command line; none if it runs no script."""
        return tuple(self._member("command_line", ()))

    def located(self, places: Sequence[Path]) -> Adapted:
        """Return the builder with its files located; the same one if it has none."""
        locate = self._member("located")
        return Adapted(locate(places)) if locate else self

    def moved(self, root: Path, copy: Path) -> Adapted:
        """Return the builder that reads its files from a copy; the same one if it has none."""
        move = self._member("moved")
        return Adapted(move(root, copy)) if move else self

    @property
    def script_file(self) -> Path | None:
        """The file that the builder runs; None if there is none."""
        found: Path | None = self._member("script_file")
        return found

    @property
    def script_folder(self) -> Path | None:
        """The user's folder that this file needs; None if there is none."""
        found: Path | None = self._member("script_folder")
        return found

    def tried(
        self,
        flags: Mapping[str, Any],
        *,
        base: Path,
        kept: Path,
        note: Callable[[str], None],
        copy_code: Callable[[Path], Path] | None = None,
    ) -> Adapted:
        """Return the builder after a dry run; the same one if it needs none."""
        if (dry_run := self._member("tried")) is None:
            return self
        return Adapted(dry_run(flags, base=base, kept=kept, note=note, copy_code=copy_code))

    @property
    def _fields(self) -> tuple[dataclasses.Field[Any], ...]:
        own: Any = self.own
        return dataclasses.fields(own) if self.has_fields else ()

    def _evaluates_otherwise(self) -> bool:
        """Tell whether `__call__` is redefined in a subclass of what defines `metric_names`."""
        classes = type(self.own).__mro__
        of = next((i for i, each in enumerate(classes) if "metric_names" in vars(each)), 0)
        return any("__call__" in vars(each) for each in classes[:of])

    def _member(self, name: str, default: Any = None) -> Any:
        # The members of a class belong to its instances; the class itself, as a builder, is just a
        # callable.
        return default if isinstance(self.own, type) else getattr(self.own, name, default)
