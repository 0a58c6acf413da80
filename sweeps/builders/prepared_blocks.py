"""Turns a data set of texts into blocks of equal length for a causal language model.

Runs wherever data is prepared. Knows neither the model's weights nor trials.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.builders.chosen_rows import choose_rows
from sweeps.builders.data_source import read_splits
from sweeps.builders.prepared_data import Batch, map_rows, prepared_folder, write_rows
from sweeps.builders.revisions import data_version, tokenizer_version
from sweeps.builders.text_data import column_problems, load_tokenizer, text_problems
from sweeps.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class PreparedBlocks:
    """Blocks of tokens, ready for a `Trainer`."""

    train: Dataset
    """Blocks to train on: `block_tokens` token ids each, in `input_ids`."""
    eval: Dataset
    """Blocks to judge by, in the same form."""
    tokenizer: PreTrainedTokenizerBase
    """The model's own."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """All that blocks are made of: equal ones are prepared once."""

    model: str
    model_revision: str | None
    dataset: str
    dataset_config: str | None
    dataset_revision: str | None
    text_column: str
    documents: bool
    train_rows: int | None
    eval_rows: int | None
    block_tokens: int

    def prepare(self) -> PreparedBlocks:
        """The blocks, made where they are not there yet.

        Raises:
            UserError: Tokenizer or data cannot be read, or there is too little text.
        """
        settings = {
            "task": "causal language model",
            "data": data_version(self.dataset, self.dataset_revision),
            "tokenizer": tokenizer_version(self.model, self.model_revision),
            "settings": [
                *(self.dataset_config, self.text_column, self.documents),
                *(self.train_rows, self.eval_rows, self.block_tokens),
            ],
        }
        folder, _ = prepared_folder(settings, self._make)
        return _open(folder, self.model, self.model_revision)

    def _make(self, folder: Path) -> Mapping[str, Any]:
        splits = read_splits(self.dataset, self.dataset_config, self.dataset_revision)
        found = {split: table.column_names for split, table in splits.items()}
        problems = list(column_problems(found, {"text_column": self.text_column}))
        problems = problems or list(text_problems(splits, self.text_column))
        tokenizer = load_tokenizer(self.model, self.model_revision)
        if self.documents and tokenizer.eos_token_id is None:
            problems.append(
                f"model={self.model!r}: its tokenizer has no end-of-text token to put between"
                " documents; give it one, or say documents=False for lines of running text"
            )
        if problems:
            raise UserError(problems, where="CausalLM")
        train, evaluation = choose_rows(splits, self.train_rows, self.eval_rows)
        for name, table in (("train", train), ("eval", evaluation)):
            cutter = _Cutter(tokenizer, self.text_column, self.documents, self.block_tokens)
            if not write_rows(folder / f"{name}.arrow", table, cutter.blocks):
                problems.append(
                    f"text_column={self.text_column!r}: the {len(table)} {name} rows hold"
                    f" {len(cutter.rest)} tokens, fewer than one block of"
                    f" block_tokens={self.block_tokens}"
                )
        if problems:
            raise UserError(problems, where="CausalLM")
        return {}


class _Cutter:
    """Joins the tokens of rows and cuts them; what is left at the end is fewer than a block."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_column: str,
        documents: bool,
        block_tokens: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._column = text_column
        self._documents = documents
        self._block = block_tokens
        self.rest: list[int] = []

    def blocks(self, batch: Batch) -> Batch | None:
        """The blocks that are full now; None if none is."""
        tokens = self.rest
        for row in self._token_ids(batch[self._column]):
            tokens.extend(row)
        end = len(tokens) // self._block * self._block
        self.rest = tokens[end:]
        cut = [tokens[start : start + self._block] for start in range(0, end, self._block)]
        return {"input_ids": cut} if cut else None

    def _token_ids(self, texts: list[str]) -> Iterable[list[int]]:
        if self._documents:
            end = [self._tokenizer.eos_token_id]
            return (row + end for row in self._tokenize([text for text in texts if text.strip()]))
        return self._tokenize([text if text.endswith("\n") else f"{text}\n" for text in texts])

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        # verbose=False: no warning that a text is longer than the model takes, for it is cut.
        tokens = self._tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        ids: list[list[int]] = tokens["input_ids"]
        return ids


@functools.lru_cache(maxsize=8)
def _open(folder: Path, model: str, revision: str | None) -> PreparedBlocks:
    return PreparedBlocks(
        train=map_rows(folder / "train.arrow").with_format("torch"),
        eval=map_rows(folder / "eval.arrow").with_format("torch"),
        tokenizer=load_tokenizer(model, revision),
    )
