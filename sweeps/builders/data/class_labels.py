"""Reads the classes of a dataset from a column of labels, or of lists of labels.

Runs wherever data is prepared. It must not know about texts, models or trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.errors import UserError
from sweeps.naming import some

if TYPE_CHECKING:
    from datasets import Dataset


BATCH_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """The classes of a dataset, numbered from 0."""

    names: tuple[str, ...]
    """Name of each class, indexed by its id."""
    ids: Mapping[str, int]
    """Id of each value in the column, as text."""
    notes: tuple[str, ...] = ()
    """Notes on labels that are read as another type than they are stored as, one line each."""

    def id_of(self, label: Any) -> int:
        """Return the id of a label, which may have another type than those of the train split."""
        return self.ids[_text(label)]


def read_class_labels(
    train: Dataset, column: str, field: str = "label_column", *, in_lists: bool = False
) -> ClassLabels:
    """Return the classes of the train split: those of its `ClassLabel`, else the sorted values.

    Integers may be stored as floats, such as 1.0.

    Args:
        train: The train split.
        column: The column with the labels.
        field: The builder's field that names the column.
        in_lists: Whether each row contains a list of labels.

    Raises:
        UserError: The column does not contain labels, or contains fewer than two classes.
    """
    from datasets import ClassLabel, Value

    where = f"{field}={column!r}"
    feature = _feature(train, column)
    nested = hasattr(train.features[column], "feature")
    if nested != in_lists or not isinstance(feature, ClassLabel | Value):
        values = train[column][:]
        if nested and in_lists:
            values = list(itertools.chain.from_iterable(values))
        kinds = {type(value).__name__: value for value in reversed(values)}
        examples = " and ".join(map(repr, kinds.values()))
        held = " and ".join(kinds) if len(kinds) > 1 else getattr(feature, "dtype", feature)
        rule = "the classes must be either all names or all integers"
        raise UserError(
            f"contains {'lists of ' * nested}{held}, for example {examples};"
            f" {'a row must have one class' if nested and not in_lists else rule}",
            where=where,
        )
    values = _labels(train, column, f"{where}: the train split has")
    if isinstance(feature, ClassLabel):
        return ClassLabels(
            names=tuple(feature.names),
            ids={_text(index): index for index in range(len(feature.names))},
        )
    notes: tuple[str, ...] = ()
    if all(isinstance(value, float) and value.is_integer() for value in values):
        values = list(map(int, values))
        notes = (f"{where}: floats such as {float(values[0])} are read as integers",)
    if not all(isinstance(value, str | int) for value in values):
        others = (value for value in values if isinstance(value, float) and not value.is_integer())
        offending = next(others, values[0])
        raise UserError(
            f"contains {feature.dtype if hasattr(feature, 'dtype') else feature}, for example"
            f" {offending!r}; a class must be a name or an integer",
            where=where,
        )
    if len(values) < 2:
        raise UserError(
            f"all train rows have the label {values[0]!r}; classification needs at least two"
            " classes",
            where=where,
        )
    names = tuple(map(_text, sorted(values)))
    return ClassLabels(
        names=names, ids={name: index for index, name in enumerate(names)}, notes=notes
    )


def check_eval_labels(
    train: Dataset, evaluation: Dataset, column: str, field: str = "label_column"
) -> None:
    """Check that every class in the rows to evaluate on also occurs in the rows to train on.

    Args:
        train: The rows to train on.
        evaluation: The rows to evaluate on.
        column: Their column with the labels.
        field: The builder's field that names the column.

    Raises:
        UserError: A class cannot be learnt, or rows to evaluate on have no label.
    """
    from datasets import ClassLabel, Value

    where = f"{field}={column!r}"
    types = train.features[column], evaluation.features[column]
    features = _feature(train, column), _feature(evaluation, column)
    plain = all(isinstance(feature, Value) for feature in features)
    same_depth = hasattr(types[0], "feature") == hasattr(types[1], "feature")
    if not same_depth or (features[0] != features[1] and not plain):
        raise UserError(
            f"the labels have different types in train and validation ({types[0]} and {types[1]});"
            " give both the same type",
            where=where,
        )
    found = _labels(evaluation, column, f"{where}: the eval rows include")
    learnt = set(map(_text, _unique(train, column)))
    unseen = sorted((label for label in found if _text(label) not in learnt), key=str)
    if unseen:
        if isinstance(features[0], ClassLabel):
            unseen = [features[0].int2str(label) for label in unseen]
        raise UserError(
            f"the eval rows contain labels that occur in none of the {len(train)} train rows:"
            f" {some(list(map(repr, unseen)))}; use more train rows, or drop these eval rows",
            where=where,
        )


def _text(label: Any) -> str:
    """Return a label as text, which is the same for 3, 3.0 and "3".

    A reader gives a column the type that suits all its values, which may differ between splits.
    """
    return str(int(label) if isinstance(label, float) and label.is_integer() else label)


def _feature(table: Dataset, column: str) -> Any:
    """Return the type of the labels in a column, whether they are in lists or not."""
    feature = table.features[column]
    return getattr(feature, "feature", feature)


def _labels(table: Dataset, column: str, which: str) -> list[Any]:
    """Return the distinct labels in a column.

    Raises:
        UserError: Some rows have no label; the message begins with `which`.
    """
    from datasets import ClassLabel

    feature, labels = _feature(table, column), _unique(table, column)
    if isinstance(feature, ClassLabel):
        missing = bool(set(labels) - set(range(len(feature.names))))
    else:
        missing = None in labels or "" in labels
    if missing:
        raise UserError(f"{which} rows without a label; remove them")
    return labels


def _unique(table: Dataset, column: str) -> list[Any]:
    """Return the distinct labels in a column, whether they are in lists or not.

    `Dataset.unique` would write selected rows to a file beside those of the dataset.
    """
    import pyarrow.compute as pc

    found: dict[Any, None] = {}
    for batch in table.select_columns(column).with_format("arrow").iter(BATCH_ROWS):
        labels = batch[column]
        if hasattr(table.features[column], "feature"):
            labels = pc.list_flatten(labels)
        found |= dict.fromkeys(pc.unique(labels).to_pylist())
    return list(found)
