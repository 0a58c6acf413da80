"""What the shipped builders have in common: a model, a dataset, and rows that are prepared once.

`check()` and `pin()` run in the sweep process before Ray starts, `prepare()` there and in the
workers. It must not know about tasks or trials.

The metadata of each field of a builder says what the field is: `DATA` if `prepare()` reads it,
`PATH`, `COLUMN`, `at_least(...)`. The key of prepared data and the checks are derived from that.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from sweeps.builders.data.data_problems import column_problems, data_problems
from sweeps.builders.data.data_source import (
    SPLIT_NAMES,
    TEST_NAMES,
    Source,
    Split,
    read_splits,
    unread_splits,
)
from sweeps.builders.data.prepared_data import map_rows, note, prepared_folder
from sweeps.builders.data.row_counts import SplitFacts
from sweeps.builders.hub import is_hub_name
from sweeps.builders.own_code import own_code
from sweeps.builders.pretrained import load_tokenizer, model_problems, weight_problems
from sweeps.builders.revisions import DATASETS, data_version, pinned, tokenizer_version
from sweeps.errors import UserError
from sweeps.naming import some

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TINY = Path(__file__).parent / "tiny"
METRICS = Path(__file__).parent / "metrics"

DATA = {"data": True}
"""Marks a field that `prepare()` reads, and which is thus part of the key of prepared data."""
PATH = {"path": True}
"""Marks a field that may name a local path."""
COLUMN = {"column": True}
"""Marks a field that names a column of the dataset."""


def at_least(number: int) -> dict[str, int]:
    """Return the mark of a field that holds an integer of at least `number`."""
    return {"least": number}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Rows that are ready for a `Trainer`."""

    train: Dataset
    """Rows to train on."""
    eval: Dataset
    """Rows to evaluate on, in the same form."""
    tokenizer: PreTrainedTokenizerBase
    """The model's own tokenizer."""
    label_names: tuple[str, ...]
    """Name of each class, indexed by its id; empty if there are no classes."""
    facts: tuple[SplitFacts, ...] = ()
    """Facts about the rows to train on, then about those to evaluate on; empty: nothing was
    counted."""


@dataclass(frozen=True, kw_only=True)
class TextBuilder:
    """A builder that trains a pretrained model on the texts in a dataset."""

    length_field: ClassVar[str]
    """The field that says how many tokens the model must accept."""
    tiny_model: ClassVar[str]
    """The shipped model that `--tiny` uses."""
    tiny_dataset: ClassVar[str]
    """The shipped dataset that `--tiny` uses."""
    tokenizer_options: ClassVar[Mapping[str, Any]] = {}
    """Options for loading the model's tokenizer."""
    row_format: ClassVar[str | None] = None
    """The `datasets` format in which rows are read; None: Python lists."""
    judges_test: ClassVar[bool] = False
    """Whether it evaluates the test split; see `on_test`."""

    model: str = field(metadata=DATA | PATH)
    """Hub name or local folder of a pretrained model and its tokenizer."""
    dataset: str = field(metadata=DATA | PATH)
    """Hub name, or local folder with train and validation as parquet, csv, tsv, jsonl or json,
    optionally compressed (.gz), or a `save_to_disk` folder. If no file is named after its split,
    the files are those that `datasets` infers."""
    dataset_config: str | None = field(default=None, metadata=DATA)
    """The configuration of a dataset that has several; None: its default."""
    train_rows: int | None = field(default=None, metadata=DATA | at_least(1))
    """Train on at most this many rows; None: all."""
    eval_rows: int | None = field(default=None, metadata=DATA | at_least(1))
    """Evaluate on at most this many rows of the validation split; None: all. Without a validation
    split, this many rows are held out from train, the same for all trials; None: a tenth of
    train."""
    stream: bool = False
    """Whether Ray Data streams the prepared rows to the workers, for data larger than memory; if
    so, nothing that `prepare` reads can be tuned."""
    revisions: Mapping[str, str] = field(default_factory=dict, metadata=DATA)
    """Branch, tag or commit of a Hub model under its name, and of a Hub dataset under `datasets/`
    and its name; a sweep replaces them with the commits that it finds at its start."""

    @property
    def data_fields(self) -> tuple[str, ...]:
        """The fields that `prepare` reads."""
        return self._marked("data")

    @property
    def path_fields(self) -> tuple[str, ...]:
        """The fields that may name a local path."""
        return self._marked("path")

    @property
    def model_revision(self) -> str | None:
        """The revision of a Hub model; None: the newest."""
        return self.revisions.get(self.model)

    @property
    def dataset_revision(self) -> str | None:
        """The revision of a Hub dataset; None: the newest."""
        return self.revisions.get(f"{DATASETS}{self.dataset}")

    def check(self) -> None:
        """Check files and columns cheaply, without reading rows.

        Raises:
            UserError: Lists everything that is wrong in one message.
        """
        problems = list(self._number_problems())
        # An invalid number is reported once, and does not hide other problems.
        tokens = 0 if problems else getattr(self, self.length_field)
        eval_rows = None if problems else self.eval_rows
        problems += self._own_problems()
        problems += self._model_problems(tokens)
        problems += data_problems(self._source, self._columns, eval_rows)
        if problems:
            raise UserError(problems, where=type(self).__name__)

    def pin(self) -> Self:
        """Return the same builder with the commits of model and data, if the Hub can be reached.

        Raises:
            UserError: The Hub does not provide one of them.
        """
        revisions = pinned(self.revisions, self.model, self.dataset)
        return dataclasses.replace(self, revisions=revisions)

    def prepare(self) -> Prepared:
        """Return the prepared rows, which are created once and then mapped from files.

        Repeated calls are cheap. Each returns new objects, which a trial may change. They share
        only what the tokenizer's Rust code holds, such as the vocabulary.

        Raises:
            UserError: The model or data cannot be read, or the data does not fit the task.
        """
        readable = _only_data(self)
        folder, facts = prepared_folder(readable._made_of(), readable._write)
        for line in facts.get("notes", ()):
            note(line)
        names = tuple(facts.get("label_names", ()))
        counted = tuple(map(SplitFacts.from_json, facts.get("splits", ())))
        tokenizer_of = (self.open_tokenizer, self.model, self.model_revision)
        opened = _open(folder, names, counted, *tokenizer_of)
        return dataclasses.replace(
            opened,
            train=opened.train.with_format(self.row_format),  # a copy
            eval=opened.eval.with_format(self.row_format),
            tokenizer=copy.copy(opened.tokenizer),
        )

    def tiny(self) -> Self:
        """Return the same builder with the shipped model and generated rows."""
        columns: dict[str, Any] = {e.name: e.default for e in self._fields_marked("column")}
        return dataclasses.replace(
            self,
            model=str(TINY / self.tiny_model),
            dataset=str(TINY / self.tiny_dataset),
            dataset_config=None,
            train_rows=None,
            eval_rows=None,
            **columns,
        )

    def on_test(self) -> Self:
        """Return the same builder, set to evaluate the whole test split, not the held-out rows."""
        kind = type(self)
        marked = {"judges_test": True, "__qualname__": kind.__qualname__}
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        marked_kind: type[Self] = type(kind.__name__, (kind,), marked)
        return marked_kind(**{**values, "eval_rows": None})

    @classmethod
    def open_tokenizer(cls, model: str, revision: str | None) -> PreTrainedTokenizerBase:
        """Return the model's tokenizer, set up for the task.

        Raises:
            UserError: It cannot be loaded.
        """
        return load_tokenizer(model, revision, **cls.tokenizer_options)

    def _own_problems(self) -> Iterator[str]:
        """Yield the problems with the fields that are specific to the task."""
        yield from ()

    def _model_problems(self, tokens: int) -> Iterator[str]:
        problems = list(model_problems(self.model, self.model_revision, tokens, self.length_field))
        yield from problems or self._weight_problems()

    def _weight_problems(self) -> Iterator[str]:
        yield from weight_problems(self.model)

    def _column_problems(self, splits: Mapping[Split, Dataset]) -> Iterator[str]:
        """Yield the problems with the contents of the columns, which are known to exist."""
        raise NotImplementedError

    def _write(self, folder: Path) -> dict[str, Any]:
        """Write `train.arrow` and `eval.arrow`; return facts about them as plain JSON."""
        raise NotImplementedError

    def _number_problems(self) -> Iterator[str]:
        for each in self._fields_marked("least"):
            value, least = getattr(self, each.name), each.metadata["least"]
            if value is None and each.default is None:
                continue
            if not isinstance(value, int) or value < least:
                yield f"{each.name}={value!r}: must be an integer of at least {least}"

    def _read_splits(self) -> dict[Split, Dataset]:
        """Return the rows of each split, after checking their columns.

        Raises:
            UserError: The rows cannot be read, or do not suit the task.
        """
        splits = read_splits(self._source, self._split_names)
        if self.judges_test and "validation" not in splits:
            raise UserError(
                f"dataset={self.dataset!r}: no test split; export without --test",
                where=type(self).__name__,
            )
        found = {split: table.column_names for split, table in splits.items()}
        problems = list(column_problems(found, self._columns))
        problems = problems or list(self._column_problems(splits))
        if problems:
            raise UserError(problems, where=type(self).__name__)
        return splits

    def _held_out(self, splits: Mapping[Split, Dataset], evaluation: Dataset) -> list[str]:
        """Return a note if the rows to evaluate on are held out from the train split."""
        if "validation" in splits:
            return []
        unread = unread_splits(self._source, self._split_names)
        names = some(unread)
        return [
            f"no validation split: {len(evaluation):,} of the {len(splits['train']):,} train rows"
            f" are held out for evaluation{f'; not read: {names}' if names else ''}"
        ]

    def _made_of(self) -> dict[str, Any]:
        """Return everything that prepared rows depend on.

        Versions replace the names of model and data.
        """
        values = {name: getattr(self, name) for name in self.data_fields if name != "revisions"}
        # A note names these; those of a Hub dataset follow from its commit.
        unread = [] if is_hub_name(self.dataset) else unread_splits(self._source, self._split_names)
        return {
            "builder": type(self).__qualname__,
            **({"code": code} if (code := own_code(type(self))) else {}),
            **({"split": "test"} if self.judges_test else {}),
            **({"unread": unread} if unread else {}),
            **values,
            "dataset": data_version(self._source, self._split_names),
            "model": tokenizer_version(self.model, self.model_revision),
        }

    @property
    def _source(self) -> Source:
        return Source(self.dataset, self.dataset_config, self.dataset_revision)

    @property
    def _split_names(self) -> Mapping[Split, tuple[str, ...]]:
        return TEST_NAMES if self.judges_test else SPLIT_NAMES

    @property
    def _columns(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self._marked("column")}

    def _marked(self, mark: str) -> tuple[str, ...]:
        return tuple(each.name for each in self._fields_marked(mark))

    def _fields_marked(self, mark: str) -> Iterator[dataclasses.Field[Any]]:
        return (each for each in dataclasses.fields(self) if mark in each.metadata)


B = TypeVar("B", bound=TextBuilder)


def _only_data(builder: B) -> B:
    """Return a view of the builder for `prepare()`, in which reading a field without `DATA` raises.

    This ensures that every field it reads is part of the key of prepared data.
    """
    hidden = {each.name for each in dataclasses.fields(builder)} - set(builder.data_fields)

    def read(self: Any, name: str) -> Any:
        if name in hidden:
            raise AttributeError(
                f"{name!r} is read while preparing data; declare this field with metadata=DATA"
            )
        return object.__getattribute__(self, name)

    kind = type(builder)
    view = copy.copy(builder)
    methods = {"__getattribute__": read, "__qualname__": kind.__qualname__}
    object.__setattr__(view, "__class__", type(kind.__name__, (kind,), methods))
    return view


@functools.lru_cache(maxsize=8)
def _open(
    folder: Path,
    label_names: tuple[str, ...],
    facts: tuple[SplitFacts, ...],
    open_tokenizer: Callable[[str, str | None], PreTrainedTokenizerBase],
    model: str,
    revision: str | None,
) -> Prepared:
    return Prepared(
        train=map_rows(folder / "train.arrow"),
        eval=map_rows(folder / "eval.arrow"),
        label_names=label_names,
        facts=facts,
        tokenizer=open_tokenizer(model, revision),
    )
