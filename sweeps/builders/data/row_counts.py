"""Counts what `plan` shows about prepared rows: labels per class, and truncated texts.

Runs wherever rows are prepared, while they are encoded. It must not know about tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sweeps.builders.data.prepared_data import Batch


@dataclass(frozen=True, kw_only=True)
class SplitFacts:
    """What was counted in the rows of a split."""

    cut: int | None
    """Number of rows whose text was truncated; None if the tokenizer does not report it."""
    classes: tuple[tuple[str, int], ...]
    """Name of each class and number of its labels, in the order of the ids."""

    def in_json(self) -> dict[str, Any]:
        """Return the facts as JSON."""
        return {"cut": self.cut, "classes": self.classes}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Return the facts from JSON."""
        classes = tuple((name, count) for name, count in kept["classes"])
        return cls(cut=kept["cut"], classes=classes)


class RowCounts:
    """Counts the rows of a split, batch by batch."""

    def __init__(self) -> None:
        self._cut: int | None = 0
        self._labels: Counter[int] = Counter()

    def of(self, encode: Callable[[Batch], Batch | None]) -> Callable[[Batch], Batch | None]:
        """Return a function that encodes a batch and counts the result."""

        def counted(batch: Batch) -> Batch | None:
            rows = encode(batch)
            if rows is not None:
                self._count(rows)
            return rows

        return counted

    def facts(self, names: Sequence[str]) -> SplitFacts:
        """Return what was counted, given the names of the classes in the order of their ids."""
        classes = tuple((name, self._labels[i]) for i, name in enumerate(names))
        return SplitFacts(cut=self._cut, classes=classes)

    def _count(self, rows: Batch) -> None:
        from transformers import BatchEncoding

        # Only a fast tokenizer reports what it has truncated.
        encodings = rows.encodings if isinstance(rows, BatchEncoding) else None
        if encodings is None or self._cut is None:
            self._cut = None
        else:
            self._cut += sum(bool(encoding.overflowing) for encoding in encodings)
        for label in rows["labels"]:
            # Labels below zero are ignored by the loss, and have no name.
            self._labels.update(label if isinstance(label, list) else [label])
