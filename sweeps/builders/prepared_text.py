"""Turns a data set of labelled texts into tokenised rows.

Runs wherever data is prepared. Knows neither the model's weights nor trials.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.builders.chosen_rows import choose_rows
from sweeps.builders.class_labels import check_eval_labels, read_class_labels
from sweeps.builders.data_source import Split, read_splits
from sweeps.builders.prepared_data import Batch, map_rows, prepared_folder, write_rows
from sweeps.builders.revisions import data_version, tokenizer_version
from sweeps.builders.text_data import column_problems, load_tokenizer, text_problems
from sweeps.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class PreparedText:
    """Tokenised rows, ready for a `Trainer`."""

    train: Dataset
    """Rows to train on: token ids, cut but not padded, and class ids in `labels`."""
    eval: Dataset
    """Rows to judge by, in the same form."""
    label_names: tuple[str, ...]
    """Name of each class, by its id."""
    tokenizer: PreTrainedTokenizerBase
    """The model's own, with a padding token."""


@dataclass(frozen=True, kw_only=True)
class LabelledTexts:
    """All that tokenised rows are made of: equal ones are prepared once."""

    model: str
    model_revision: str | None
    dataset: str
    dataset_config: str | None
    dataset_revision: str | None
    text_column: str
    label_column: str
    train_rows: int | None
    eval_rows: int | None
    max_tokens: int

    def prepare(self) -> PreparedText:
        """The rows, made where they are not there yet.

        Raises:
            UserError: Model or data cannot be read, or the data does not fit the task.
        """
        settings = {
            "task": "text classification",
            "data": data_version(self.dataset, self.dataset_revision),
            "tokenizer": tokenizer_version(self.model, self.model_revision),
            "settings": [
                *(self.dataset_config, self.text_column, self.label_column),
                *(self.train_rows, self.eval_rows, self.max_tokens),
            ],
        }
        folder, facts = prepared_folder(settings, self._make)
        return _open(folder, tuple(facts["label_names"]), self.model, self.model_revision)

    def _make(self, folder: Path) -> Mapping[str, Any]:
        splits = read_splits(self.dataset, self.dataset_config, self.dataset_revision)
        self._check(splits)
        labels = read_class_labels(splits["train"], self.label_column)
        train, evaluation = choose_rows(splits, self.train_rows, self.eval_rows)
        check_eval_labels(train, evaluation, self.label_column)
        tokenizer = _tokenizer(self.model, self.model_revision)

        def encode(batch: Batch) -> Batch:
            tokens = tokenizer(batch[self.text_column], truncation=True, max_length=self.max_tokens)
            return {
                **tokens,
                "labels": [labels.ids[value] for value in batch[self.label_column]],
            }

        for name, table in (("train", train), ("eval", evaluation)):
            write_rows(folder / f"{name}.arrow", table, encode)
        return {"label_names": labels.names}

    def _check(self, tables: Mapping[Split, Dataset]) -> None:
        found = {split: table.column_names for split, table in tables.items()}
        columns = {"text_column": self.text_column, "label_column": self.label_column}
        problems = list(column_problems(found, columns))
        problems = problems or list(text_problems(tables, self.text_column))
        if problems:
            raise UserError(problems, where="TextClassification")


@functools.lru_cache(maxsize=8)
def _open(
    folder: Path, label_names: tuple[str, ...], model: str, revision: str | None
) -> PreparedText:
    return PreparedText(
        train=map_rows(folder / "train.arrow"),
        eval=map_rows(folder / "eval.arrow"),
        label_names=label_names,
        tokenizer=_tokenizer(model, revision),
    )


def _tokenizer(model: str, revision: str | None) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(model, revision)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and Llama come without one
    return tokenizer
