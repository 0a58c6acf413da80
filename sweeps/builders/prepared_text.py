"""Turns a data set of labelled texts into tokenised rows.

Runs in the workers, before a group's first trial. Knows neither the model's weights nor trials.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.builders.class_labels import check_eval_labels, read_class_labels
from sweeps.builders.data_source import Split, read_splits
from sweeps.builders.hub import is_hub_name, not_on_the_hub
from sweeps.builders.prepared_data import choose_rows, map_rows, one_process_a_node
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


@functools.lru_cache(maxsize=8)
def prepare_text(
    *,
    model: str,
    dataset: str,
    dataset_config: str | None,
    text_column: str,
    label_column: str,
    train_rows: int | None,
    eval_rows: int | None,
    max_tokens: int,
) -> PreparedText:
    """The rows that a `TextClassification` with these fields trains on and judges by.

    Raises:
        UserError: Model or data cannot be read, or the data does not fit the task.
    """
    from datasets.fingerprint import Hasher

    tokenizer = _load_tokenizer(model)
    depends_on = Hasher.hash([tokenizer, text_column, label_column, max_tokens])
    with one_process_a_node(f"{model}\n{dataset}\n{dataset_config}"):
        splits = read_splits(dataset, dataset_config)
        _check_tables(splits, text_column, label_column)
        labels = read_class_labels(splits["train"], label_column)
        train, evaluation = choose_rows(splits, train_rows, eval_rows)
        check_eval_labels(train, evaluation, label_column)

        def encode(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
            tokens = tokenizer(batch[text_column], truncation=True, max_length=max_tokens)
            return {**tokens, "labels": [labels.ids[value] for value in batch[label_column]]}

        key = f"{depends_on}\n{labels.names}"
        return PreparedText(
            train=map_rows(train, encode, depends_on=key),
            eval=map_rows(evaluation, encode, depends_on=key),
            label_names=labels.names,
            tokenizer=tokenizer,
        )


def column_problems(
    columns: Mapping[Split, Sequence[str]], text_column: str, label_column: str
) -> Iterator[str]:
    """The columns that splits lack, given the columns of each split."""
    for field, column in (("text_column", text_column), ("label_column", label_column)):
        lacking = [split for split, names in columns.items() if column not in names]
        if lacking:
            found = ", ".join(columns[lacking[0]])
            yield f"{field}={column!r}: no such column in {' and '.join(lacking)} (found: {found})"


def _check_tables(tables: Mapping[Split, Dataset], text_column: str, label_column: str) -> None:
    columns = {split: table.column_names for split, table in tables.items()}
    if problems := list(column_problems(columns, text_column, label_column)):
        raise UserError(problems, where="TextClassification")
    for split, table in tables.items():
        feature = table.features[text_column]
        missing = table.data[text_column].null_count
        if getattr(feature, "dtype", None) not in ("string", "large_string"):
            problems.append(f"text_column={text_column!r}: {split} holds {feature} there, not text")
        elif missing:
            problems.append(f"text_column={text_column!r}: {missing} rows of {split} have no text")
    if problems:
        raise UserError(problems, where="TextClassification")


def _load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model, trust_remote_code=False
        )
    except OSError as error:
        if is_hub_name(model):
            raise not_on_the_hub(f"model={model!r}", error) from error
        raise UserError(f"model={model!r}: its tokenizer cannot be read ({error})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 and Llama come without one
    return tokenizer
