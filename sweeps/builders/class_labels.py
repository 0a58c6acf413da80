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
    ids: Mapping[Any, int]
    """Id of each value in the column."""
    notes: tuple[str, ...] = ()
    """Notes on labels that are read as another type than they are stored as, one line each."""


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
        rule = "be either all names or all integers"
        raise UserError(
            f"contains {'lists of ' * nested}{held}, for example {examples}; the classes must"
            f" {'not be in lists' if nested and not in_lists else rule}",
            where=where,
        )
    values = _unique(train, column)
    if isinstance(feature, ClassLabel):
        if set(values) - set(range(len(feature.names))):
            raise UserError("the train split has rows without a label; remove them", where=where)
        return ClassLabels(
            names=tuple(feature.names), ids={index: index for index in range(len(feature.names))}
        )
    if None in values or "" in values:
        raise UserError("the train split has rows without a label; remove them", where=where)
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
    names = sorted(values)
    return ClassLabels(
        names=tuple(map(str, names)),
        ids={value: index for index, value in enumerate(names)},
        notes=notes,
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
        UserError: A class cannot be learnt.
    """
    from datasets import ClassLabel

    where = f"{field}={column!r}"
    features = _feature(train, column), _feature(evaluation, column)
    if any(isinstance(feature, ClassLabel) for feature in features) and features[0] != features[1]:
        raise UserError(
            f"the labels have different types in train and validation ({features[0]} and"
            f" {features[1]}); give both the same ClassLabel",
            where=where,
        )
    unseen = sorted(set(_unique(evaluation, column)) - set(_unique(train, column)), key=str)
    if unseen:
        if isinstance(features[0], ClassLabel):
            unseen = [features[0].int2str(value) if value >= 0 else None for value in unseen]
        raise UserError(
            f"the eval rows contain labels that occur in none of the {len(train)} train rows:"
            f" {some(list(map(repr, unseen)))}; use more train rows, or drop these eval rows",
            where=where,
        )


def _feature(table: Dataset, column: str) -> Any:
    """Return the type of the labels in a column, whether they are in lists or not."""
    feature = table.features[column]
    return getattr(feature, "feature", feature)


def _unique(table: Dataset, column: str) -> list[Any]:
    """Return the distinct labels in a column, whether they are in lists or not."""
    if not hasattr(table.features[column], "feature"):
        return list(table.unique(column))
    import pyarrow.compute as pc

    batches = table.with_format("arrow").iter(BATCH_ROWS)
    labels = (pc.unique(pc.list_flatten(batch[column])).to_pylist() for batch in batches)
    return list(dict.fromkeys(label for found in labels for label in found))
