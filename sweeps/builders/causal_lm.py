"""Trains a causal language model on running text, all its weights or a LoRA adapter.

`check()` runs in the sweep process before Ray starts, `prepare()` there and in the workers, the
rest in the workers. Knows nothing of trials, devices or where results go: all that arrives in
`args`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweeps.builders.prepared_blocks import PreparedBlocks, Texts
from sweeps.builders.pretrained import has_weights, model_problems
from sweeps.builders.revisions import DATASETS, pinned
from sweeps.builders.text_data import data_problems, number_problems
from sweeps.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainingArguments

TINY = Path(__file__).parent / "tiny"
LEAST = {"train_rows": 1, "eval_rows": 1, "block_tokens": 2, "lora_rank": 1, "lora_alpha": 1}


@dataclass(frozen=True, kw_only=True)
class CausalLM:
    """Builds a `Trainer` that teaches `model` to predict the next token of `text_column`.

    The texts are joined and cut into blocks of `block_tokens`; nothing is padded, and only what
    does not fill the last block is left out. The evaluation gives `eval_loss` (nats per token)
    and `eval_perplexity`, its exponential. A test split is never read.
    """

    path_fields: ClassVar[tuple[str, ...]] = ("model", "dataset")
    """The fields that may name something on this disk; `sweeps` makes those absolute."""
    data_fields: ClassVar[tuple[str, ...]] = (
        *("model", "dataset", "dataset_config", "revisions", "text_column", "documents"),
        *("train_rows", "eval_rows", "block_tokens"),
    )
    """The fields that `prepare` reads."""

    model: str
    """Hub name or local folder of a model with its tokenizer."""
    from_scratch: bool = False
    """True: only config and tokenizer of `model` are read, and the weights are drawn anew."""
    dataset: str
    """Hub name, or local folder: train and validation as parquet, csv or jsonl, or a
    `save_to_disk` folder."""
    dataset_config: str | None = None
    """The configuration of a Hub data set that has several; None: its default."""
    text_column: str = "text"
    """Column with the text."""
    documents: bool = True
    """True: each row is a document, and the tokenizer's end-of-text token follows it. False: rows
    are lines of running text, and a newline follows one that has none."""
    train_rows: int | None = None
    """Train on at most so many rows; None: all."""
    eval_rows: int | None = None
    """Judge by at most so many rows of the validation split; None: all. Without a validation split
    so many rows are held out of train, the same for all trials; None: a tenth of train."""
    block_tokens: int = 512
    """Length of a block, in tokens; at most what the model takes."""
    lora_rank: int | None = None
    """Rank of the LoRA adapter (Hu et al. 2021) that is trained in place of the weights; None:
    all weights are trained."""
    lora_alpha: int = 16
    """The adapter's output is multiplied by `lora_alpha / lora_rank`."""
    lora_dropout: float = 0.0
    """Share of the adapter's inputs that is dropped while training, in [0, 1)."""
    lora_modules: str | Sequence[str] | None = None
    """Names of the layers that get an adapter, or "all-linear"; None: peft's choice for the
    architecture."""
    stream: bool = False
    """True: Ray Data streams the prepared blocks to the workers, for more of them than memory
    holds; nothing that `prepare` reads can be tuned then."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Branch, tag or commit of a Hub model by its name, and of a Hub data set by `datasets/` and
    its name; a sweep puts the commits in that it finds at its start."""

    def check(self) -> None:
        """Looks at files and columns, cheaply, and reads no rows.

        Raises:
            UserError: All that is wrong, in one message.
        """
        problems = list(number_problems(self, LEAST))
        # A senseless number is named once, and does not hide what else is wrong.
        sound = dataclasses.replace(self, eval_rows=None, block_tokens=0) if problems else self
        problems += self._lora_problems()
        texts = self._texts()
        wrong = list(
            model_problems(self.model, texts.model_revision, sound.block_tokens, "block_tokens")
        )
        if not wrong and not self.from_scratch and not has_weights(self.model):
            wrong = [f"model={self.model!r}: no weights; from_scratch=True draws them anew"]
        problems += wrong
        problems += data_problems(
            self.dataset,
            self.dataset_config,
            texts.dataset_revision,
            {"text_column": self.text_column},
            sound.eval_rows,
        )
        if problems:
            raise UserError(problems, where="CausalLM")

    def pin(self) -> CausalLM:
        """The same with the commits of model and data, where the Hub can be reached.

        Raises:
            UserError: The Hub does not give one of them.
        """
        revisions = pinned(self.revisions, self.model, self.dataset)
        return dataclasses.replace(self, revisions=revisions)

    def prepare(self) -> PreparedBlocks:
        """The blocks: computed once, then mapped from files; equal calls are free.

        Raises:
            UserError: The data cannot be read, or holds too little text.
        """
        return self._texts().prepare()

    def tiny(self) -> CausalLM:
        """The same with the shipped model of 8,800 parameters and 512 generated reviews."""
        return dataclasses.replace(
            self,
            model=str(TINY / "causal_model"),
            from_scratch=False,
            dataset=str(TINY / "dataset"),
            dataset_config=None,
            text_column="text",
            documents=True,
            train_rows=None,
            eval_rows=None,
            block_tokens=32,
            lora_modules=None,
        )

    def __call__(self, args: TrainingArguments, *, data: PreparedBlocks) -> Trainer:
        """A `Trainer` with a new model; new weights are drawn here, so set the seed before.

        The model divides its loss by the number of tokens that HF counts over workers and
        accumulation steps, so HF's scaling of the loss is right as it is (transformers 5.23).
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

        # transformers 5 keeps a checkpoint's own type; Adam needs 32 bits.
        settings = {
            "revision": self.revisions.get(self.model, "main"),
            "dtype": "float32",
            "trust_remote_code": False,  # without it, HF asks on the terminal whether to run it
        }
        model: PreTrainedModel
        if self.from_scratch:
            config = AutoConfig.from_pretrained(self.model, **settings)
            model = AutoModelForCausalLM.from_config(config)
        else:
            model = AutoModelForCausalLM.from_pretrained(self.model, **settings)
        # By its name alone GPT2LMHeadModel is not known to shift its labels (transformers 5.23),
        # and HF would count one token a block too many.
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
            revision=self.revisions.get(self.model),
        )
        adapted: PreTrainedModel = get_peft_model(model, adapter)
        return adapted

    def _lora_problems(self) -> Iterator[str]:
        if not 0 <= self.lora_dropout < 1:
            yield f"lora_dropout={self.lora_dropout!r}: must be in [0, 1)"
        if self.lora_rank is None:
            return
        if self.from_scratch:
            yield "from_scratch=True: LoRA adapts weights that are there; remove lora_rank"
        if importlib.util.find_spec("peft") is None:
            yield f"lora_rank={self.lora_rank!r}: needs peft; pip install 'sweeps[lora]'"

    def _texts(self) -> Texts:
        return Texts(
            model=self.model,
            model_revision=self.revisions.get(self.model),
            dataset=self.dataset,
            dataset_config=self.dataset_config,
            dataset_revision=self.revisions.get(f"{DATASETS}{self.dataset}"),
            text_column=self.text_column,
            documents=self.documents,
            train_rows=self.train_rows,
            eval_rows=self.eval_rows,
            block_tokens=self.block_tokens,
        )


def _collate(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Blocks (rows, tokens) int64, and the same as labels; the model shifts them."""
    import torch

    blocks = torch.stack([row["input_ids"] for row in rows])
    return {"input_ids": blocks, "labels": blocks.clone()}


def _block_losses(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
    """Mean loss of each block (rows,) float32, taken on the device, one block at a time.

    HF's own `eval_loss` is a mean over batches: on several workers the last one holds rows twice.
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
    """`loss` takes the place of HF's `eval_loss`."""
    loss = float(evaluation.predictions.mean())
    return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
