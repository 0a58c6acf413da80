"""Trains a causal language model on running text: all of its weights, or a LoRA adapter.

`check()` runs in the sweep process before Ray starts, `prepare()` there and in the workers, and the
rest in the workers. It must not know about trials, devices or where results go: all of that is in
`args`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sweeps.builders.base import COLUMN, DATA, Prepared, TextBuilder, at_least
from sweeps.builders.data.chosen_rows import choose_rows
from sweeps.builders.data.data_problems import text_problems
from sweeps.builders.data.data_source import Split
from sweeps.builders.data.prepared_data import Batch, write_rows
from sweeps.builders.pretrained import has_weights
from sweeps.errors import UserError
from sweeps.space.builder import Pipeline

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import (
        EvalPrediction,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        Trainer,
        TrainingArguments,
    )


@dataclass(frozen=True, kw_only=True)
class CausalLM(TextBuilder):
    """Builds a `Trainer` that teaches `model` to predict the next token of `text_column`.

    The texts are concatenated and cut into blocks of `block_tokens`; nothing is padded, and only
    the remainder that does not fill a block is dropped. The evaluation returns `eval_loss` (nats
    per token) and `eval_perplexity`, its exponential. A test split is never read.
    """

    pipeline: ClassVar = Pipeline(task="text-generation")
    metric_names: ClassVar = ("loss", "perplexity")
    length_field: ClassVar[str] = "block_tokens"
    tiny_model: ClassVar[str] = "causal_model"
    tiny_dataset: ClassVar[str] = "dataset"
    row_format: ClassVar[str | None] = "torch"

    from_scratch: bool = False
    """Whether to read only the config and tokenizer of `model`, and start from random weights."""
    text_column: str = field(default="text", metadata=DATA | COLUMN)
    """Column with the text."""
    documents: bool = field(default=True, metadata=DATA)
    """True: each row is a document, followed by the tokenizer's end-of-text token. False: rows are
    lines of running text; a newline is added to each row that does not end with one."""
    block_tokens: int = field(default=512, metadata=DATA | at_least(2))
    """Length of a block in tokens; at most what the model accepts."""
    lora_rank: int | None = field(default=None, metadata=at_least(1))
    """Rank of the LoRA adapter (Hu et al. 2021) that is trained in place of the weights; None:
    train all weights."""
    lora_alpha: int = field(default=16, metadata=at_least(1))
    """The adapter's output is multiplied by `lora_alpha / lora_rank`."""
    lora_dropout: float = 0.0
    """Fraction of the adapter's inputs that is dropped during training, in [0, 1)."""
    lora_modules: str | Sequence[str] | None = None
    """Names of the layers that get an adapter, or "all-linear"; None: peft's choice for the
    architecture."""

    def tiny(self) -> Self:
        """Return the same builder with a shipped model (8,800 parameters) and 512 reviews."""
        return dataclasses.replace(
            super().tiny(), from_scratch=False, documents=True, block_tokens=32, lora_modules=None
        )

    def __call__(self, args: TrainingArguments, *, data: Prepared) -> Trainer:
        """Return a `Trainer` with a new model; new weights are drawn here, so set the seed first.

        The model divides its loss by the number of tokens that HF counts over workers and
        accumulation steps, so HF's scaling of the loss is correct (transformers 5.23).
        """
        from transformers import Trainer

        return Trainer(
            model=self._model(),
            args=args,
            data_collator=_collate,
            train_dataset=data.train,
            eval_dataset=data.eval,
            processing_class=data.tokenizer,
            compute_metrics=_compute_metrics,
            preprocess_logits_for_metrics=_block_losses,
        )

    def _model(self) -> PreTrainedModel:
        from transformers import AutoConfig, AutoModelForCausalLM

        # transformers 5 keeps the dtype of the checkpoint, but Adam needs 32 bits.
        settings = {
            "revision": self.model_revision or "main",
            "dtype": "float32",
            "trust_remote_code": False,  # without it, HF asks on the terminal whether to run it
        }
        model: PreTrainedModel
        if self.from_scratch:
            config = AutoConfig.from_pretrained(self.model, **settings)
            model = AutoModelForCausalLM.from_config(config)
        else:
            model = AutoModelForCausalLM.from_pretrained(self.model, **settings)
        # transformers 5.23 cannot tell from the name GPT2LMHeadModel that it shifts its labels, so
        # HF would count one token per block too many.
        model.loss_type = "ForCausalLM"
        if self.lora_rank is None:
            return model
        from peft import LoraConfig, get_peft_model

        modules = self.lora_modules
        adapter = LoraConfig(
            task_type="CAUSAL_LM",
            r=self.lora_rank,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=modules if isinstance(modules, str | None) else list(modules),
            revision=self.model_revision,
        )
        adapted: PreTrainedModel = get_peft_model(model, adapter)
        return adapted

    def _own_problems(self) -> Iterator[str]:
        if not 0 <= self.lora_dropout < 1:
            yield f"lora_dropout={self.lora_dropout!r}: must be in [0, 1)"
        if self.lora_rank is None:
            return
        if self.from_scratch:
            yield "from_scratch=True: LoRA adapts existing weights; remove lora_rank"
        if importlib.util.find_spec("peft") is None:
            yield f"lora_rank={self.lora_rank!r}: requires peft; run pip install 'sweeps[lora]'"

    def _weight_problems(self) -> Iterator[str]:
        if self.from_scratch:
            return
        yield from super()._weight_problems()
        if not has_weights(self.model):
            yield (
                f"model={self.model!r}: contains no weights; set from_scratch=True to initialise"
                " new ones"
            )

    def _column_problems(self, splits: Mapping[Split, Dataset]) -> Iterator[str]:
        yield from text_problems(splits, self.text_column)

    def _write(self, folder: Path) -> dict[str, Any]:
        splits = self._read_splits()
        tokenizer = self.open_tokenizer(self.model, self.model_revision)
        if self.documents and tokenizer.eos_token_id is None:
            raise UserError(
                f"model={self.model!r}: its tokenizer has no end-of-text token to insert between"
                " documents; add one, or set documents=False if the rows are lines of running text",
                where=type(self).__name__,
            )
        train, evaluation = choose_rows(splits, self.train_rows, self.eval_rows)
        problems = []
        for name, table in (("train", train), ("eval", evaluation)):
            cutter = _Cutter(tokenizer, self.text_column, self.documents, self.block_tokens)
            if not write_rows(folder / f"{name}.arrow", table, cutter.blocks):
                problems.append(
                    f"text_column={self.text_column!r}: the {len(table)} {name} rows contain"
                    f" {len(cutter.rest)} tokens, fewer than one block"
                    f" (block_tokens={self.block_tokens}); lower block_tokens, or add rows"
                )
        if problems:
            raise UserError(problems, where=type(self).__name__)
        return {"notes": self._held_out(splits, evaluation)}


class _Cutter:
    """Concatenates the tokens of rows and cuts them into blocks.

    The rest at the end is shorter than a block.
    """

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
        """Return the blocks that are now full; None if there are none."""
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
        # verbose=False: no warning that a text is too long for the model, since it will be cut.
        tokens = self._tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        ids: list[list[int]] = tokens["input_ids"]
        return ids


def _collate(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return blocks (rows, tokens) int64, and the same as labels; the model shifts them."""
    import torch

    blocks = torch.stack([row["input_ids"] for row in rows])
    return {"input_ids": blocks, "labels": blocks.clone()}


def _block_losses(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """Return the mean loss of each block (rows,) float32, computed on the device block by block.

    HF's own `eval_loss` is a mean over batches, the last of which has duplicate rows if there are
    several workers.
    """
    import torch
    from torch.nn.functional import cross_entropy

    scores = logits[0] if isinstance(logits, tuple) else logits
    return torch.stack(
        [
            cross_entropy(block[:-1].float(), wanted[1:])
            for block, wanted in zip(scores, labels, strict=True)
        ]
    )


def _compute_metrics(evaluation: EvalPrediction) -> dict[str, Any]:
    """Return the metrics; `loss` replaces HF's `eval_loss`."""
    loss = float(evaluation.predictions.mean())
    return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
