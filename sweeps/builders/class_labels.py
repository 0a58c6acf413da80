"""Reads the classes of a data set from its label column.

Runs in the workers, while the data is prepared. Knows neither texts, models nor trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class ClassLabels:
    """The classes of a data set, numbered from 0."""

    names: tuple[str, ...]
    """Name of each class, by its id."""
    ids: Mapping[Any, int]
    """Id of each value that the label column holds."""


def read_class_labels(train: Dataset, column: str) -> ClassLabels:
    """The classes of the whole train split: `ClassLabel` names as they are, else sorted values.

    Raises:
        UserError: The column holds no labels, or fewer than two classes.
    """
    from datasets import ClassLabel

    where = f"label_column={column!r}"
    values = train.unique(column)
    feature = train.features[column]
    if isinstance(feature, ClassLabel):
        if set(values) - set(range(len(feature.names))):
            raise UserError("train has rows without a label; remove them", where=where)
        return ClassLabels(
            names=tuple(feature.names), ids={index: index for index in range(len(feature.names))}
        )
    if None in values or "" in values:
        raise UserError("train has rows without a label; remove them", where=where)
    if not all(isinstance(value, str | int) for value in values):
        raise UserError(
            f"holds {feature.dtype if hasattr(feature, 'dtype') else feature}, for example "
            f"{values[0]!r}; a class is a name or a whole number",
            where=where,
        )
    if len(values) < 2:
        raise UserError(f"all rows of train have the label {values[0]!r}", where=where)
    names = sorted(values)
    return ClassLabels(
        names=tuple(map(str, names)), ids={value: index for index, value in enumerate(names)}
    )


def check_eval_labels(train: Dataset, evaluation: Dataset, column: str) -> None:
    """Sees to it that the rows to train on show every class of the rows to judge by.

    Raises:
        UserError: Some class can be judged but not learnt.
    """
    from datasets import ClassLabel

    where = f"label_column={column!r}"
    features = train.features[column], evaluation.features[column]
    if any(isinstance(feature, ClassLabel) for feature in features) and features[0] != features[1]:
        raise UserError(
            f"train and validation name their classes differently ({features[0]} and "
            f"{features[1]})",
            where=where,
        )
    unseen = sorted(set(evaluation.unique(column)) - set(train.unique(column)), key=str)
    if unseen:
        if isinstance(features[0], ClassLabel):
            unseen = [features[0].int2str(value) if value >= 0 else None for value in unseen]
        raise UserError(
            f"the eval rows have labels that the {len(train)} train rows have not: "
            f"{_listed(unseen)}; train on more rows, or remove these",
            where=where,
        )


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, values[:8]))
    return f"{shown} and {len(values) - 8} more" if len(values) > 8 else shown
