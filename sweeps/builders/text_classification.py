"""Fine-tunes a pretrained encoder to classify texts; most search spaces use this builder.

`check()` runs in the sweep process before Ray starts, the rest in the workers. It must not know
about trials, devices or where results go: all of that is in `args`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sweeps.builders.base import COLUMN, DATA, METRICS, Prepared
from sweeps.builders.data.class_labels import ClassLabels, check_eval_labels, read_class_labels
from sweeps.builders.data.data_problems import text_problems
from sweeps.builders.data.data_source import Split
from sweeps.builders.data.prepared_data import Batch
from sweeps.builders.hub import is_hub_name
from sweeps.builders.row_builder import RowBuilder
from sweeps.space.builder import Pipeline

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import (
        EvalPrediction,
        PreTrainedTokenizerBase,
        Trainer,
        TrainingArguments,
    )


@dataclass(frozen=True, kw_only=True)
class TextClassification(RowBuilder):
    """Builds a `Trainer` that fine-tunes `model` to predict `label_column` from `text_column`.

    The classes are read from the data. The evaluation returns `eval_loss`, `eval_accuracy` and
    `eval_f1` (macro). A test split is never read.
    """

    pipeline: ClassVar = Pipeline(
        task="text-classification", answer={"label": "string", "score": "double"}
    )
    metric_names: ClassVar = ("loss", "accuracy", "f1")
    tiny_dataset: ClassVar[str] = "dataset"

    text_column: str = field(default="text", metadata=DATA | COLUMN)
    """Column with the text to classify."""
    label_column: str = field(default="label", metadata=DATA | COLUMN)
    """Column with the class: a name, or an integer (gaps are fine)."""

    def __call__(self, args: TrainingArguments, *, data: Prepared) -> Trainer:
        """Return a `Trainer` with a new model.

        The head is initialised here, so set the seed first.
        """
        from transformers import (
            AutoModelForSequenceClassification,
            DataCollatorWithPadding,
            Trainer,
        )

        model = AutoModelForSequenceClassification.from_pretrained(
            self.model,
            revision=self.model_revision or "main",
            num_labels=len(data.label_names),
            id2label=dict(enumerate(data.label_names)),
            label2id={name: index for index, name in enumerate(data.label_names)},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # a head for other classes starts at random
            pad_token_id=data.tokenizer.pad_token_id,
            trust_remote_code=False,  # without it, HF asks on the terminal whether to run it
            dtype="float32",  # Adam needs 32 bits; transformers 5 would keep the checkpoint's dtype
        )
        # transformers 5.23 assumes that any forward(**kwargs) divides the loss by the number of
        # items, and multiplies it by workers and accumulation steps; this mean loss is not divided.
        model.accepts_loss_kwargs = False
        return Trainer(
            model=model,
            args=args,
            data_collator=DataCollatorWithPadding(
                data.tokenizer, pad_to_multiple_of=8 if args.device.type == "cuda" else None
            ),
            train_dataset=data.train,
            eval_dataset=data.eval,
            processing_class=data.tokenizer,
            compute_metrics=_compute_metrics,
            preprocess_logits_for_metrics=_judge,
        )

    def _column_problems(self, splits: Mapping[Split, Dataset]) -> Iterator[str]:
        # Nobody but its owner can remove the blank rows of a Hub dataset.
        own = not is_hub_name(self.dataset)
        yield from text_problems(splits, self.text_column, blank_is_missing=own)

    def _read_labels(self, train: Dataset) -> ClassLabels:
        return read_class_labels(train, self.label_column)

    def _check_labels(self, train: Dataset, evaluation: Dataset, labels: ClassLabels) -> None:
        check_eval_labels(train, evaluation, self.label_column)

    def _encode(
        self, batch: Batch, tokenizer: PreTrainedTokenizerBase, labels: ClassLabels
    ) -> Batch:
        tokens = tokenizer(batch[self.text_column], truncation=True, max_length=self.max_tokens)
        tokens["labels"] = [labels.id_of(label) for label in batch[self.label_column]]
        rows: Batch = tokens  # includes the tokenizer's encodings, which show what was truncated
        return rows


def _judge(logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return classes (rows,) and losses (rows,), computed on the device, so no logits are kept.

    HF's own `eval_loss` is a mean over batches, the last of which has duplicate rows if there are
    several workers.
    """
    from torch.nn.functional import cross_entropy

    scores = logits[0] if isinstance(logits, tuple) else logits
    return scores.argmax(dim=-1), cross_entropy(scores.float(), labels, reduction="none")


def _compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
    """Return the metrics; `loss` replaces HF's `eval_loss`."""
    classes, losses = evaluation.predictions
    scores: dict[str, float] = {"loss": float(losses.mean())}
    for metric in _metrics():
        scores |= metric.compute(predictions=classes, references=evaluation.label_ids)
    return scores


@functools.cache
def _metrics() -> list[Any]:
    import evaluate  # takes 5 to 14 s on first import

    return [evaluate.load(str(METRICS / name), keep_in_memory=True) for name in ("accuracy", "f1")]
