"""The contract of a builder: the members that it may have, and defaults for those it lacks.

Runs wherever a builder is checked or called. Only this module asks whether a builder has a member:
`adapt` returns a value that has them all. It must not know any shipped builder.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

STREAM = "stream"
"""The keyword that switches streaming on; see `Builder.stream`."""
EVAL = "eval_"
"""What HF puts before the names of an evaluation's metrics."""
DATA = "data"
"""The parameter of `__call__` that takes what `prepare()` returns."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """How `transformers.pipeline` serves what a builder trains: text in, `answer` out."""

    task: str
    """The name of the pipeline, such as `text-classification`."""
    answer: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Columns of the answer, name to MLflow's type (`string`, `double`); empty: text."""


class Builder(Protocol):
    """Makes a `Trainer`; what a search space names as `build_trainer`.

    `__call__` is all that is needed, so any function is a builder. Every other member is optional.
    The keywords that a space can tune or fix are the fields of a dataclass, or the parameters of a
    function after the first.
    """

    def __call__(self, args: TrainingArguments, **keywords: Any) -> Trainer:
        """Return a `Trainer` with a new model. Runs in a worker, after the seed is set.

        A builder with `prepare()` gets its result as `data`.
        """

    def check(self) -> None:
        """Raise `UserError` with all that is wrong, cheaply.

        Called in the sweep process before Ray starts, once for each choice of a tuned keyword.
        """

    def pin(self) -> Builder:
        """Return the same builder with the Hub revisions of this moment as commits."""

    def prepare(self) -> Any:
        """Return the data, an object with `train` and `eval`, for `__call__` to take as `data`.

        Called in the sweep process for each choice of what it reads, and for each trial in each
        worker: the first call keeps its result in files, and the others find it there.
        """

    def tiny(self) -> Builder:
        """Return the same builder on a model and data of a few seconds, for `--tiny`."""

    def on_test(self) -> Builder:
        """Return the same builder, which evaluates the test split in place of the held-out rows.

        Only `export --test` calls it.
        """

    def count_rows(self) -> tuple[int | None, int | None]:
        """Return the rows to train on and to evaluate on; None where counting takes long."""

    @property
    def data_fields(self) -> Collection[str]:
        """The keywords that `prepare()` reads; without it, all."""

    @property
    def path_fields(self) -> Collection[str]:
        """The keywords that may name a path, which workers get absolute; without it, all."""

    @property
    def stream(self) -> bool:
        """Whether Ray Data streams the prepared train rows to the workers; a keyword."""

    @property
    def revisions(self) -> Mapping[str, str]:
        """What `pin()` found, which a resume keeps; a keyword."""

    @property
    def metric_names(self) -> Collection[str]:
        """All metrics that the evaluation gives, `loss` too, by their HF names or without `eval_`.

        Of several evaluation sets `eval_SET_loss`. A space that is judged by another metric is
        refused. Without it, or where a subclass has its own `__call__`, the smoke run tells.
        """

    @property
    def pipeline(self) -> Pipeline:
        """How the trained model is served; without it, MLflow's logged model has no `predict`."""

    @property
    def makes_arguments(self) -> bool:
        """Whether it makes the arguments itself, as a script does.

        It is then called with the values that they must have, a dict, in place of `args`.
        """

    def with_fewer_rows(self, phases: Collection[str]) -> Builder:
        """Return the same builder, which takes fewer rows per device in these phases.

        Called in a worker after memory ran out, of a builder that makes the arguments itself: it
        alone knows the rows of the trial. The total batch stays as it is.
        """

    @property
    def argument_class(self) -> type[TrainingArguments]:
        """The class of the arguments; without it, that of the annotation."""

    @property
    def argument_values(self) -> Mapping[str, Any]:
        """Values of arguments that it sets itself where the space sets none."""

    @property
    def keyword_names(self) -> Collection[str]:
        """The keywords that can be tuned or fixed, where its signature does not say."""

    @property
    def command_line(self) -> Sequence[str]:
        """The words of the command line that it runs a script with."""

    def located(self, places: Sequence[Path]) -> Builder:
        """Return the same builder, which has found its own files below the first of these folders.

        Called first of all, in the sweep process.
        """

    def moved(self, root: Path, copy: Path) -> Builder:
        """Return the same builder, which reads its own files below `root` from their copy.

        Called in a worker.
        """

    @property
    def script_file(self) -> Path | None:
        """The file that it runs."""

    @property
    def script_folder(self) -> Path | None:
        """The user's own folder that this file needs; it goes along with the code of the space."""

    def tried(
        self, flags: Mapping[str, Any], *, base: Path, kept: Path, note: Callable[[str], None]
    ) -> Builder:
        """Return the same builder, which knows its arguments and keywords from a dry run.

        Called in the sweep process.

        Args:
            flags: Values of what the space sets.
            base: The folder that trials run in.
            kept: Where it keeps what it finds.
            note: Takes a line on what it does.

        Raises:
            UserError: It makes no trainer that can be swept.
        """


@dataclass(frozen=True)
class Adapted:
    """A builder with every member, and with what the sweep needs to know of its signature."""

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
        """The builder with its fields, or a function's dotted name."""
        own: Any = self.own
        if inspect.isroutine(own) or isinstance(own, type):
            return f"{own.__module__}.{own.__qualname__}"
        return repr(own)

    @property
    def module(self) -> ModuleType | None:
        """The module of the function or class; None where Python finds none."""
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
        """The keywords that the builder names; None where its signature does."""
        names = self._member("keyword_names")
        return None if names is None else frozenset(names)

    @property
    def values(self) -> dict[str, Any]:
        """The values of its fields; empty for a function."""
        return {field.name: getattr(self.own, field.name) for field in self._fields}

    def with_values(self, values: Mapping[str, Any]) -> Adapted:
        """Return the builder with its own fields among `values` set; a function stays as it is."""
        if not self.has_fields:
            return self
        own = {name: value for name, value in values.items() if name in self.keywords}
        return Adapted(dataclasses.replace(self.own, **own))  # type: ignore[type-var]

    def __call__(self, args: Any, keywords: Mapping[str, Any], **data: Any) -> Any:
        """Return what the builder makes of the arguments; a function takes the keywords, too."""
        return self.own(args, **({} if self.has_fields else keywords), **data)

    @property
    def checks(self) -> bool:
        """Whether `check()` looks at anything."""
        return self._member("check") is not None

    def check(self) -> None:
        """Let the builder raise `UserError` with what is wrong."""
        if self.checks:
            self._member("check")()

    def pin(self) -> Adapted:
        """Return the pinned builder; itself where there is nothing to pin."""
        pin = self._member("pin")
        return Adapted(pin()) if pin else self

    @property
    def prepares(self) -> bool:
        """Whether it prepares data, which it is then called with."""
        return self._member("prepare") is not None

    def prepare(self) -> Any:
        """Return the prepared data; only of a builder that `prepares`."""
        return self._member("prepare")()

    def tiny(self) -> Adapted | None:
        """Return the tiny builder; None where it has none."""
        tiny = self._member("tiny")
        return Adapted(tiny()) if tiny else None

    def on_test(self) -> Adapted | None:
        """Return the builder that evaluates the test split; None where it has none."""
        on_test = self._member("on_test")
        return Adapted(on_test()) if on_test else None

    def count_rows(self) -> tuple[int | None, int | None]:
        """Return the rows to train on and to evaluate on; None where they are not known."""
        count = self._member("count_rows")
        train, evaluation = count() if count else (None, None)
        return train, evaluation

    @property
    def data_fields(self) -> frozenset[str]:
        """The keywords that `prepare()` reads."""
        return self.keywords.intersection(self._member("data_fields", self.keywords))

    @property
    def path_fields(self) -> frozenset[str]:
        """The keywords that may name a path."""
        return self.keywords.intersection(self._member("path_fields", self.keywords))

    @property
    def stream(self) -> bool:
        """Whether Ray Data streams its prepared train rows to the workers."""
        return self.prepares and bool(self._member(STREAM))

    @property
    def revisions(self) -> dict[str, str]:
        """The pinned revisions; empty where it has none."""
        return dict(self._member("revisions", {}))

    @property
    def metric_names(self) -> list[str] | None:
        """What the evaluation gives, by HF's names; None where the builder does not say."""
        names = None if self._calls_otherwise("metric_names") else self._member("metric_names")
        if names is None:
            return None
        return sorted(f"{EVAL}{name.removeprefix(EVAL)}" for name in names)

    @property
    def pipeline(self) -> Pipeline | None:
        """How the trained model is served; None where the builder does not say."""
        found: Pipeline | None = self._member("pipeline")
        return found

    @property
    def makes_arguments(self) -> bool:
        """Whether it makes the arguments itself, and is called with their values."""
        return bool(self._member("makes_arguments"))

    def with_fewer_rows(self, phases: Collection[str]) -> Adapted:
        """Return the builder that takes fewer rows; itself where it is given its arguments."""
        reduce = self._member("with_fewer_rows")
        return Adapted(reduce(phases)) if reduce else self

    @property
    def argument_class(self) -> type[TrainingArguments] | None:
        """The class of the arguments, where the builder says it."""
        found: type[TrainingArguments] | None = self._member("argument_class")
        return found

    @property
    def argument_values(self) -> dict[str, Any]:
        """Values of arguments that it sets itself; the space stands above them."""
        return dict(self._member("argument_values", {}))

    @property
    def command_line(self) -> Sequence[str]:
        """The words of a script's command line; none where it runs no script."""
        return tuple(self._member("command_line", ()))

    def located(self, places: Sequence[Path]) -> Adapted:
        """Return the builder with its own files found; itself where it has none."""
        locate = self._member("located")
        return Adapted(locate(places)) if locate else self

    def moved(self, root: Path, copy: Path) -> Adapted:
        """Return the builder that reads its own files from a copy; itself where it has none."""
        move = self._member("moved")
        return Adapted(move(root, copy)) if move else self

    @property
    def script_file(self) -> Path | None:
        """The file that the builder runs; None where there is none."""
        found: Path | None = self._member("script_file")
        return found

    @property
    def script_folder(self) -> Path | None:
        """The user's own folder that this file needs; None where there is none."""
        found: Path | None = self._member("script_folder")
        return found

    def tried(
        self, flags: Mapping[str, Any], *, base: Path, kept: Path, note: Callable[[str], None]
    ) -> Adapted:
        """Return the builder after a dry run; itself where it makes none."""
        try_ = self._member("tried")
        return Adapted(try_(flags, base=base, kept=kept, note=note)) if try_ else self

    @property
    def _fields(self) -> tuple[dataclasses.Field[Any], ...]:
        own: Any = self.own
        return dataclasses.fields(own) if self.has_fields else ()

    def _calls_otherwise(self, name: str) -> bool:
        """Tell whether a subclass of the class that has a member has a `__call__` of its own."""
        classes = type(self.own).__mro__
        of = next((i for i, each in enumerate(classes) if name in vars(each)), 0)
        return any("__call__" in vars(each) for each in classes[:of])

    def _member(self, name: str, default: Any = None) -> Any:
        # What a class has belongs to its instances: as a builder it is a mere callable.
        return default if isinstance(self.own, type) else getattr(self.own, name, default)


def adapt(builder: Callable[..., Any]) -> Adapted:
    """Return the builder with every member of the contract."""
    return Adapted(builder)
