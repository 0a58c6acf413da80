"""What `plan` says about the data: rows by split, truncated texts, and classes.

Pure. It must not know how data is prepared or how this is displayed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sweeps.builders.base import Prepared
from sweeps.builders.data.row_counts import SplitFacts
from sweeps.secrets import FREE_TEXT
from sweeps.space.builder import EVAL

SPLITS = ("train", "eval")
NOTHING = SplitFacts(cut=None, classes=())


class Choice(NamedTuple):
    """Prepared data, and the tuned choices that it was prepared with."""

    values: Mapping[str, Any]
    data: Any


@dataclass(frozen=True, kw_only=True)
class SplitRows:
    """The rows of a split for one choice of the values that they depend on."""

    split: str
    """`train` or `eval`."""
    choice: Mapping[str, Any] = field(default_factory=dict, metadata=FREE_TEXT)
    """Tuned values that the rows were prepared with."""
    rows: int
    cut: int | None = None
    """Number of rows whose text was truncated; None: not counted."""
    classes: Mapping[str, int] = field(default_factory=dict, metadata=FREE_TEXT)
    """Number of labels by class; empty: not counted."""


def judged_set(metric: str, sets: Collection[str]) -> str | None:
    """Return the name of the evaluation set that a metric is from; None if its name does not tell.

    HF puts the name of a set in front of its metrics: `eval_dev_accuracy`.
    """
    found = [name for name in sets if metric.removeprefix(EVAL).startswith(f"{name}_")]
    return max(found, key=len, default=None)


def counted_rows(train: int | None, evaluation: int | None) -> list[SplitRows]:
    """Return the splits whose number of rows is known although nothing was prepared."""
    splits = zip(SPLITS, (train, evaluation), strict=True)
    return [SplitRows(split=split, rows=rows) for split, rows in splits if rows is not None]


def prepared_rows(choices: Sequence[Choice]) -> list[SplitRows]:
    """Return what is known about each split of prepared data."""
    found = []
    for values, data in choices:
        facts = data.facts if isinstance(data, Prepared) and data.facts else (NOTHING, NOTHING)
        for split, known in zip(SPLITS, facts, strict=True):
            table = getattr(data, split, None)
            if isinstance(table, Sized):
                found.append(
                    SplitRows(
                        split=split,
                        choice=values,
                        rows=len(table),
                        cut=known.cut,
                        classes=dict(known.classes),
                    )
                )
    return found
