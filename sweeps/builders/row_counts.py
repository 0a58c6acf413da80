"""Counts what `plan` says of prepared rows: labels by class, and texts that are cut.

Runs wherever rows are prepared, while they are encoded. It must not know a task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sweeps.builders.prepared_data import Batch


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """What was counted of the rows of a split."""

    cut: int | None
    """Rows whose text is longer than the model gets to see; None: the tokenizer does not tell."""
    classes: tuple[tuple[str, int], ...]
    """Name of each class and its labels, by id."""

    def in_json(self) -> dict[str, Any]:
        """Return the facts as JSON keeps them."""
        return {"cut": self.cut, "classes": self.classes}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return the facts that JSON kept."""
        classes = tuple((name, count) for name, count in kept["classes"])
        return cls(cut=kept["cut"], classes=classes)


class RowCounts:
    """Counts the rows of a split, batch by batch."""

    def __init__(self) -> None:
        self._cut: int | None = 0
        self._labels: Counter[int] = Counter()

    def of(self, encode: Callable[[Batch], Batch | None]) -> Callable[[Batch], Batch | None]:
        """Return a function that encodes a batch and counts what comes out."""

        def counted(batch: Batch) -> Batch | None:
            rows = encode(batch)
            if rows is not None:
                self._count(rows)
            return rows

        return counted

    def facts(self, names: Sequence[str]) -> SplitFacts:
        """Return what was counted, given the name of each class by its id."""
        classes = tuple((name, self._labels[i]) for i, name in enumerate(names))
        return SplitFacts(cut=self._cut, classes=classes)

    def _count(self, rows: Batch) -> None:
        from transformers import BatchEncoding

        # Only a fast tokenizer says what it has cut off.
        encodings = rows.encodings if isinstance(rows, BatchEncoding) else None
        if encodings is None or self._cut is None:
            self._cut = None
        else:
            self._cut += sum(bool(encoding.overflowing) for encoding in encodings)
        for label in rows["labels"]:
            # What no loss counts has a label below zero, and no name.
            self._labels.update(label if isinstance(label, list) else [label])
