"""A builder whose prepared rows are the rows of the dataset, tokenised, with their labels.

`count_rows()` runs in the sweep process before Ray starts, the rest in the workers as well. It must
not know what the labels mean.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweeps.builders.base import DATA, TextBuilder, at_least
from sweeps.builders.data.chosen_rows import choose_rows, rows_in_both, rows_to_hold_out
from sweeps.builders.data.class_labels import ClassLabels
from sweeps.builders.data.prepared_data import Batch, write_rows
from sweeps.builders.data.row_counts import RowCounts
from sweeps.builders.data.split_summary import summarize_splits

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

COUNTED = 100_000
"""Maximum number of rows of a csv, tsv or jsonl file that are counted before anything starts."""


@dataclass(frozen=True, kw_only=True)
class RowBuilder(TextBuilder):
    """A builder whose prepared rows are the rows of the dataset, tokenised, with their classes."""

    length_field: ClassVar[str] = "max_tokens"
    content_field: ClassVar[str] = "text_column"
    """The field that names the column with the content."""
    tiny_model: ClassVar[str] = "model"

    max_tokens: int = field(default=256, metadata=DATA | at_least(3))  # [CLS], one token, [SEP]
    """Longer texts are truncated to this many tokens, including special tokens."""

    def count_rows(self) -> tuple[int | None, int | None]:
        """Return the numbers of rows to train and to evaluate on, each None if not known.

        Nothing is counted beyond `COUNTED` train rows; the second is then `eval_rows`.

        Raises:
            UserError: The dataset cannot be found or read, or has no train split.
        """
        found = summarize_splits(self._source, count_to=COUNTED)
        train, held_out = found["train"].rows, None
        if train is None or train >= COUNTED:
            return None, self.eval_rows
        if "validation" in found:
            judged = found["validation"].rows
        else:
            judged = held_out = rows_to_hold_out(train, self.eval_rows)
        left = train - (held_out or 0)
        limits = (self.train_rows or left, self.eval_rows or judged)
        return min(left, limits[0]), None if judged is None else min(judged, limits[1] or judged)

    @classmethod
    def open_tokenizer(cls, model: str, revision: str | None) -> PreTrainedTokenizerBase:
        """Return the model's tokenizer, with a padding token.

        Raises:
            UserError: It cannot be loaded.
        """
        tokenizer = super().open_tokenizer(model, revision)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and Llama have none
        return tokenizer

    def _read_labels(self, train: Dataset) -> ClassLabels:
        """Return the classes of the whole train split.

        Raises:
            UserError: The label column does not contain classes.
        """
        raise NotImplementedError

    def _check_labels(self, train: Dataset, evaluation: Dataset, labels: ClassLabels) -> None:
        """Check that the model can learn every class of the eval rows.

        Raises:
            UserError: It cannot learn one of them.
        """
        raise NotImplementedError

    def _encode(
        self, batch: Batch, tokenizer: PreTrainedTokenizerBase, labels: ClassLabels
    ) -> Batch | None:
        """Return token ids, truncated but not padded, and class ids in `labels`.

        None for no rows.
        """
        raise NotImplementedError

    def _row_notes(
        self, rows: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase, labels: ClassLabels
    ) -> Iterator[str]:
        """Yield notes on the rows to train on ("train") and to evaluate on ("eval")."""
        yield from ()

    def _write(self, folder: Path) -> dict[str, Any]:
        splits = self._read_splits()
        labels = self._read_labels(splits["train"])
        train, evaluation = choose_rows(splits, self.train_rows, self.eval_rows)
        self._check_labels(train, evaluation, labels)
        tokenizer = self.open_tokenizer(self.model, self.model_revision)
        encode = functools.partial(self._encode, tokenizer=tokenizer, labels=labels)
        rows = {"train": train, "eval": evaluation}
        facts = []
        for name, table in rows.items():
            counts = RowCounts()
            write_rows(folder / f"{name}.arrow", table, counts.of(encode))
            facts.append(counts.facts(labels.names).in_json())
        copies = rows_in_both(train, evaluation, getattr(self, self.content_field))
        copied = (
            f"{copies:,} of {len(evaluation):,} eval rows are word-for-word copies of train rows,"
            " so their scores say little about unseen text"
        )
        held_out = self._held_out(splits, evaluation)
        more = self._row_notes(rows, tokenizer, labels)
        notes = [*held_out, *labels.notes, *([copied] if copies else []), *more]
        return {"label_names": labels.names, "notes": notes, "splits": facts}
